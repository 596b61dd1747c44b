"""Removes what surrounded launches whose server is gone, for when the hub could not do so itself.

A process beside the hub, run by it: `python -m pangeo_binder.hub.namespace_reaper`. It asks the hub about each
namespace that bears a launch's label, a bounded number in each round, and acts only on a clear answer, given twice.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import defaultdict
from collections.abc import AsyncIterator

import aiohttp
from kubernetes_asyncio.client.rest import ApiException

from .. import names
from ..liveness import HubIsAlive, IsAlive, Missing
from .kube_api import CONFLICT, NOT_FOUND, KubeApi
from .manifests import SERVER_ANNOTATION

log = logging.getLogger(__name__)

PERIOD_SECONDS = 10.0
"""Two rounds find a dead server, so its namespace is going within 30 s."""
_PAGE = 200
"""How many namespaces one round looks at: a backstop must not be a load, however many launches there are."""


class NamespaceReaper:
    """Compares launches' namespaces with the hub's servers, again and again."""

    def __init__(self, api: KubeApi, is_alive: IsAlive) -> None:
        self._api = api
        self._next = ""
        self._number = 0
        self._missing: defaultdict[int, Missing] = defaultdict(lambda: Missing(is_alive))
        """Who was found gone before, by the number of the page."""

    async def loop(self) -> None:
        """Reap until cancelled; a round that fails is logged and tried again."""
        while True:
            try:
                await self.reap()
            except (ApiException, aiohttp.ClientError, TimeoutError) as error:
                log.error("A round of the namespace reaper failed: %s", type(error).__name__)
            await asyncio.sleep(PERIOD_SECONDS)

    async def reap(self) -> None:
        """Delete the namespaces of one page whose servers were found dead twice."""
        number = self._number
        owners = {owner: name async for name, owner in self._page()}
        gone = await self._missing[number].among(owners)
        for owner in gone:
            log.warning("Deleting namespace %s: the server of its launch is gone", owners[owner])
            await self._delete(owners[owner])

    async def _page(self) -> AsyncIterator[tuple[str, str]]:
        """Yield the next launches' namespaces that are not going already, with their servers."""
        core, more = await self._api.core(), {"_continue": self._next} if self._next else {}
        self._next = ""  # where the page is too old to go on from, the next round begins anew
        selector = f"{names.LAUNCH_LABEL},app.kubernetes.io/managed-by={names.LABEL}"
        listed = await core.list_namespace(label_selector=selector, limit=_PAGE, _request_timeout=30, **more)
        self._next = listed.metadata._continue or ""
        self._number = self._number + 1 if self._next else 0
        for item in listed.items:
            owner = (item.metadata.annotations or {}).get(SERVER_ANNOTATION, "")
            if owner and item.metadata.deletion_timestamp is None:
                yield item.metadata.name, owner

    async def _delete(self, name: str) -> None:
        core = await self._api.core()
        try:
            await core.delete_namespace(name, _request_timeout=30)
        except ApiException as error:
            if error.status not in (NOT_FOUND, CONFLICT):
                raise


async def _run() -> None:
    # JupyterHub tells a service it runs by these where it is and how it is let in
    is_alive = HubIsAlive(os.environ["JUPYTERHUB_API_URL"], os.environ["JUPYTERHUB_API_TOKEN"])
    await NamespaceReaper(KubeApi(os.environ.get("KUBECONFIG", "")), is_alive).loop()


def main() -> None:
    """Run until stopped."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s %(message)s")
    asyncio.run(_run())


if __name__ == "__main__":
    main()
