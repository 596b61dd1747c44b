"""Deletes the objects of launches whose server is gone, in case the hub could not do so itself.

A process that the hub starts: `python -m pangeo_binder.hub.kube.namespace_reaper`, with the name of the shared
namespace, if there is one, as its argument. In each round it asks the hub about the servers of a bounded number of
launches. It acts only on a clear answer, given twice.
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

from kubernetes_asyncio.client.rest import ApiException

from ... import names
from ...kube.api import NO_ANSWER, KubeApi, delete_if_present
from ...kube.labels import SERVER_ANNOTATION
from ...kube.placement import shared_name
from ...liveness import HubIsAlive, IsAlive, MissingServers
from ...logs import install
from .launch_objects import remove_shared

log = logging.getLogger(__name__)

PERIOD_SECONDS = 10.0
"""Two rounds over a page find a dead server: with at most one page of launches, its objects are deleted within 30 s."""
_PAGE = 200
"""How many launches one round checks: a backstop must not be a load, however many there are."""
_REQUEST_SECONDS = 30
_SELECTOR = f"{names.LAUNCH_LABEL},app.kubernetes.io/managed-by={names.LABEL}"


class Layout(ABC):
    """How the launches' objects are laid out in the cluster."""

    def __init__(self, api: KubeApi) -> None:
        self._api = api

    @abstractmethod
    async def listed(self, **page: Any) -> Any:
        """Return a page of the objects of which each launch has one for as long as it has any object."""

    @abstractmethod
    async def remove(self, found: Any) -> None:
        """Delete all objects of the launch that `found` belongs to. Raises ApiException and what connections raise."""


class OwnNamespaces(Layout):
    """A namespace for each launch."""

    async def listed(self, **page: Any) -> Any:
        """Return a page of launches' namespaces."""
        return await (await self._api.core()).list_namespace(**page)

    async def remove(self, found: Any) -> None:
        """Delete the namespace."""
        core = await self._api.core()
        await delete_if_present(core.delete_namespace(found.metadata.name, _request_timeout=_REQUEST_SECONDS))


class SharedNamespace(Layout):
    """One namespace of all launches, in which each launch has a NetworkPolicy from before its pod to the end."""

    def __init__(self, api: KubeApi, namespace: str) -> None:
        super().__init__(api)
        self._namespace = namespace

    async def listed(self, **page: Any) -> Any:
        """Return a page of launches' NetworkPolicies."""
        return await (await self._api.networking()).list_namespaced_network_policy(self._namespace, **page)

    async def remove(self, found: Any) -> None:
        """Delete the server's pod and its other objects; dask-gateway or the operator ends the Dask clusters."""
        launch_id, core = found.metadata.labels[names.LAUNCH_LABEL], await self._api.core()
        await delete_if_present(core.delete_namespaced_pod(shared_name("server", launch_id), self._namespace))
        await remove_shared(self._api, self._namespace, launch_id)


class NamespaceReaper:
    """Compares the launches in the cluster with the hub's servers, periodically."""

    def __init__(self, layout: Layout, is_alive: IsAlive) -> None:
        self._layout = layout
        self._next = ""
        self._number = 0
        self._missing: defaultdict[int, MissingServers] = defaultdict(lambda: MissingServers(is_alive))
        """The servers that were gone in the last round, by the number of the page."""

    async def loop(self) -> None:
        """Reap until cancelled; a round that fails is logged and tried again."""
        while True:
            try:
                await self.reap()
            except (ApiException, *NO_ANSWER) as error:
                log.error("A round of the namespace reaper failed: %s", type(error).__name__)
            await asyncio.sleep(PERIOD_SECONDS)

    async def reap(self) -> None:
        """Delete the objects of one page's launches whose servers were gone twice."""
        number = self._number
        found = defaultdict(list)
        for each in await self._page():
            found[each.metadata.annotations[SERVER_ANNOTATION]].append(each)
        for owner in await self._missing[number].find(found):
            for each in found[owner]:
                log.warning("Deleting the objects left of launch %s", each.metadata.labels[names.LAUNCH_LABEL])
                await self._layout.remove(each)

    async def _page(self) -> Iterable[Any]:
        """Return the next objects that are not being deleted and name their server."""
        more = {"_continue": self._next} if self._next else {}
        self._next = ""  # if the page has expired on the API server, the next round starts from the first
        page = {"label_selector": _SELECTOR, "limit": _PAGE, "_request_timeout": _REQUEST_SECONDS}
        listed = await self._layout.listed(**page, **more)
        self._next = listed.metadata._continue or ""
        self._number = self._number + 1 if self._next else 0
        return [each for each in listed.items if _names_its_server(each.metadata)]


def _names_its_server(metadata: Any) -> bool:
    return metadata.deletion_timestamp is None and SERVER_ANNOTATION in (metadata.annotations or {})


async def _run(shared_namespace: str) -> None:
    # JupyterHub sets these for each service that it starts
    is_alive = HubIsAlive(os.environ["JUPYTERHUB_API_URL"], os.environ["JUPYTERHUB_API_TOKEN"])
    api = KubeApi(os.environ.get("KUBECONFIG", ""))
    layout = SharedNamespace(api, shared_namespace) if shared_namespace else OwnNamespaces(api)
    await NamespaceReaper(layout, is_alive).loop()


def main() -> None:
    """Run until stopped."""
    install("namespace-reaper")
    asyncio.run(_run(*sys.argv[1:2] or [""]))


if __name__ == "__main__":
    main()
