"""The one client of the Kubernetes API: a connection pool, opened when first used, and how its refusals are met.

Runs in the hub, in the namespace reaper that the hub starts, and in the binder. dask-gateway has a client of its own.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import aiohttp
from kubernetes_asyncio import client, config
from kubernetes_asyncio.client.rest import ApiException

from .refusals import Refusal, Why, refusal_of

NO_ANSWER: Final = (aiohttp.ClientError, TimeoutError, OSError)
"""The errors of a request that the API server does not answer."""
NEW_NAMESPACE_SECONDS: Final = 60.0
"""How long a new namespace may refuse objects. Usually this takes milliseconds. The quota controller looks for kinds of
objects that are new to the cluster every 30 s only, and counts nothing of a quota that names one before it found it."""
T = TypeVar("T")

_RETRY_SECONDS: Final = 0.25
_LONGEST_RETRY_SECONDS: Final = 2.0
_LOG_CHARACTERS: Final = 2000


class KubeApi:
    """A client of the API server in the file `kubeconfig`; without one, of the cluster this process runs in."""

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
            # another task may have connected while this one read the file
            self._client = self._client or client.ApiClient(settings)
        return self._client

    async def core(self) -> Any:
        """Return the API of namespaces, pods, Secrets and quotas."""
        return client.CoreV1Api(await self.client())

    async def apps(self) -> Any:
        """Return the API of Deployments."""
        return client.AppsV1Api(await self.client())

    async def batch(self) -> Any:
        """Return the API of Jobs."""
        return client.BatchV1Api(await self.client())

    async def networking(self) -> Any:
        """Return the API of NetworkPolicies."""
        return client.NetworkingV1Api(await self.client())

    async def rbac(self) -> Any:
        """Return the API of roles and their bindings."""
        return client.RbacAuthorizationV1Api(await self.client())

    async def custom_objects(self) -> Any:
        """Return the API of objects whose kind a CustomResourceDefinition defines."""
        return client.CustomObjectsApi(await self.client())

    async def as_json(self, found: Any) -> Any:
        """Return an object of the client's as the plain JSON that the API server sent."""
        return (await self.client()).sanitize_for_serialization(found)

    async def close(self) -> None:
        """Close the connections; the next use opens new ones."""
        if self._client is not None:
            await self._client.close()
            self._client = None


def refusal_by(error: ApiException) -> Refusal:
    """Return why the API server refused the request that raised `error`."""
    return refusal_of(error.status, error.body)


def log_text(error: ApiException) -> str:
    """Return what the log may say about `error`: not the body about an invalid object, which may repeat a Secret."""
    refusal = refusal_by(error)
    body = "" if refusal.why is Why.INVALID else str(error.body or "")[:_LOG_CHARACTERS]
    return f"{error.status} {error.reason} ({refusal.why}) {body}".rstrip()


async def retry_temporary(create: Callable[[], Awaitable[T]], seconds: float = NEW_NAMESPACE_SECONDS) -> T:
    """Return what `create` returns; call it again for `seconds` while the refusal is temporary. Raises ApiException."""
    give_up, pause = time.monotonic() + seconds, _RETRY_SECONDS
    while True:
        try:
            return await create()
        except ApiException as error:
            if time.monotonic() > give_up or not refusal_by(error).is_temporary:
                raise
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, _LONGEST_RETRY_SECONDS)


async def delete_if_present(deletion: Awaitable[Any]) -> None:
    """Return once the object that `deletion` deletes is being deleted or does not exist. Raises ApiException."""
    try:
        await deletion
    except ApiException as error:
        # a namespace that is being deleted already answers with a conflict
        if refusal_by(error).why not in (Why.MISSING, Why.ENDING, Why.CONFLICT):
            raise
