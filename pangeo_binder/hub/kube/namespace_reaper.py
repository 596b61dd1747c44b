"""Removes what surrounded launches whose server is gone, for when the hub could not do so itself.

A process beside the hub, run by it: `python -m pangeo_binder.hub.kube.namespace_reaper`, with the name of the shared
namespace as its argument where there is one. It asks the hub about the server of each launch it finds, a bounded number
in each round, and acts only on a clear answer, given twice.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import aiohttp
from kubernetes_asyncio.client.rest import ApiException

from ... import names
from ...kube.api import KubeApi, gone
from ...liveness import HubIsAlive, IsAlive, MissingServers
from .manifests import SERVER_ANNOTATION
from .namespaces import remove_shared
from .settings import shared_name

log = logging.getLogger(__name__)

PERIOD_SECONDS = 10.0
"""Two rounds over a page find a dead server: up to one page of launches, what surrounded it is going within 30 s."""
_PAGE = 200
"""How many launches one round looks at: a backstop must not be a load, however many there are."""
_REQUEST_SECONDS = 30
_SELECTOR = f"{names.LAUNCH_LABEL},app.kubernetes.io/managed-by={names.LABEL}"


class Surroundings(ABC):
    """Where launches leave things: what the reaper looks through."""

    def __init__(self, api: KubeApi) -> None:
        self._api = api

    @abstractmethod
    async def listed(self, **page: Any) -> Any:
        """Return a page of the objects of which each launch has one for as long as it has anything."""

    @abstractmethod
    async def remove(self, found: Any) -> None:
        """Remove all of the launch that `found` is of. Raises ApiException and what connections raise."""


class OwnNamespaces(Surroundings):
    """A namespace for each launch."""

    async def listed(self, **page: Any) -> Any:
        """Return a page of launches' namespaces."""
        return await (await self._api.core()).list_namespace(**page)

    async def remove(self, found: Any) -> None:
        """Delete the namespace."""
        core = await self._api.core()
        await gone(core.delete_namespace(found.metadata.name, _request_timeout=_REQUEST_SECONDS))


class SharedNamespace(Surroundings):
    """One namespace of all launches, in which each launch has a NetworkPolicy from before its pod to the end."""

    def __init__(self, api: KubeApi, namespace: str) -> None:
        super().__init__(api)
        self._namespace = namespace

    async def listed(self, **page: Any) -> Any:
        """Return a page of launches' NetworkPolicies."""
        return await (await self._api.networking()).list_namespaced_network_policy(self._namespace, **page)

    async def remove(self, found: Any) -> None:
        """Delete the server's pod and what surrounded it; Dask clusters are their maker's to end."""
        launch_id, core = found.metadata.labels[names.LAUNCH_LABEL], await self._api.core()
        await gone(core.delete_namespaced_pod(shared_name("server", launch_id), self._namespace))
        await remove_shared(self._api, self._namespace, launch_id)


class NamespaceReaper:
    """Compares what surrounds launches with the hub's servers, again and again."""

    def __init__(self, surroundings: Surroundings, is_alive: IsAlive) -> None:
        self._surroundings = surroundings
        self._next = ""
        self._number = 0
        self._missing: defaultdict[int, MissingServers] = defaultdict(lambda: MissingServers(is_alive))
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
        """Remove what surrounded the launches of one page whose servers were found dead twice."""
        number = self._number
        found = defaultdict(list)
        for each in await self._page():
            found[each.metadata.annotations[SERVER_ANNOTATION]].append(each)
        for owner in await self._missing[number].find(found):
            for each in found[owner]:
                log.warning("Removing what is left of launch %s", each.metadata.labels[names.LAUNCH_LABEL])
                await self._surroundings.remove(each)

    async def _page(self) -> Iterable[Any]:
        """Return the next objects that are not going already and tell whose they are."""
        more = {"_continue": self._next} if self._next else {}
        self._next = ""  # where the page is too old to go on from, the next round begins anew
        page = {"label_selector": _SELECTOR, "limit": _PAGE, "_request_timeout": _REQUEST_SECONDS}
        listed = await self._surroundings.listed(**page, **more)
        self._next = listed.metadata._continue or ""
        self._number = self._number + 1 if self._next else 0
        return [each for each in listed.items if _is_to_be_asked_for(each.metadata)]


def _is_to_be_asked_for(metadata: Any) -> bool:
    return metadata.deletion_timestamp is None and SERVER_ANNOTATION in (metadata.annotations or {})


async def _run(shared_namespace: str) -> None:
    # JupyterHub tells a service it runs by these where it is and how it is let in
    is_alive = HubIsAlive(os.environ["JUPYTERHUB_API_URL"], os.environ["JUPYTERHUB_API_TOKEN"])
    api = KubeApi(os.environ.get("KUBECONFIG", ""))
    where = SharedNamespace(api, shared_namespace) if shared_namespace else OwnNamespaces(api)
    await NamespaceReaper(where, is_alive).loop()


def main() -> None:
    """Run until stopped."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s %(message)s")
    asyncio.run(_run(*sys.argv[1:2] or [""]))


if __name__ == "__main__":
    main()
