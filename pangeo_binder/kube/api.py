"""The hub's way to Kubernetes' API: one connection pool, made when first used, with the pod's own service account.

Runs in the hub process and in the reaper beside it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from kubernetes_asyncio import client, config
from kubernetes_asyncio.client.rest import ApiException

from ..hub.kube.pod_status import is_not_yet

NOT_FOUND, CONFLICT, FORBIDDEN = 404, 409, 403
T = TypeVar("T")

_TRY_SECONDS = 0.25
NEW_SECONDS = 60.0
"""As a rule it takes milliseconds; but kinds of objects that are new to a cluster are counted only after its quota
controller has looked for such, which it does every 30 s, and has found all of them."""


class KubeApi:
    """A client of the API server, by the file `kubeconfig`; without one, as the pod this process runs in."""

    def __init__(self, kubeconfig: str = "") -> None:
        self._kubeconfig = kubeconfig
        self._client: client.ApiClient | None = None

    async def client(self) -> client.ApiClient:
        """Return the client, connected."""
        if self._client is None:
            settings = client.Configuration()
            if self._kubeconfig:
                await config.load_kube_config(self._kubeconfig, client_configuration=settings)
            else:
                config.load_incluster_config(client_configuration=settings)
            self._client = client.ApiClient(settings)
        return self._client

    async def core(self) -> Any:
        """Return the core API."""
        return client.CoreV1Api(await self.client())

    async def networking(self) -> Any:
        """Return the API of NetworkPolicies."""
        return client.NetworkingV1Api(await self.client())

    async def rbac(self) -> Any:
        """Return the API of roles and their bindings."""
        return client.RbacAuthorizationV1Api(await self.client())

    async def close(self) -> None:
        """Close connections; the next use opens them anew."""
        if self._client is not None:
            await self._client.close()
            self._client = None


async def once_it_may(make: Callable[[], Awaitable[T]], seconds: float = NEW_SECONDS) -> T:
    """Return what `make` returns, called again for `seconds` while its namespace is too new. Raises ApiException."""
    give_up = time.monotonic() + seconds
    while True:
        try:
            return await make()
        except ApiException as error:
            if time.monotonic() > give_up or not is_not_yet(str(error.body)):
                raise
        await asyncio.sleep(_TRY_SECONDS)


async def gone(deletion: Awaitable[Any]) -> None:
    """Return once what `deletion` deletes is going or gone. Raises ApiException."""
    try:
        await deletion
    except ApiException as error:
        # a conflict tells of a namespace that is going already
        if error.status not in (NOT_FOUND, CONFLICT):
            raise
