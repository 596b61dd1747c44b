"""Dask clusters by the dask-kubernetes operator: the hub writes them into the launch's namespace and looks after them.

Runs in the hub, as a client of Kubernetes' API; what is written is decided in `operator_manifests`. The session gets no
access to these objects, so its one cluster is what the grant says and nothing a session does makes it more.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Mapping
from typing import TypeVar

import aiohttp
from kubernetes_asyncio import client, config

from ..errors import DaskUnavailable
from ..model import Launch
from .operator_keys import new_keys
from .operator_manifests import (
    AUTOSCALERS,
    CLUSTER_LABEL,
    CLUSTERS,
    GROUP,
    KEYS_SECRET,
    VERSION,
    OperatorSettings,
    cluster_name,
    dask_autoscaler,
    dask_cluster,
    keys_secret,
    session_variables,
)
from .operator_status import Trouble, broken, is_ready, refusal, refused, refused_by_events
from .provision import Cluster, Clusters

log = logging.getLogger(__name__)
T = TypeVar("T")

_LOOK_SECONDS = 2.0
_ANSWER_SECONDS = 20.0
_FORBIDDEN, _NOT_FOUND = 403, 404
_AGAIN = "Try again in a minute."
_SESSION = {
    "DASK_LABEXTENSION__FACTORY__MODULE": "pangeo_binder_session.dask",
    "DASK_LABEXTENSION__FACTORY__CLASS": "attach",
}


class OperatorClusters(Clusters):
    """One cluster for each launch, which grows and shrinks by itself between the tier's bounds."""

    on_request = False
    without = "No Dask cluster could be made now; this session goes on without"

    def __init__(self, settings: OperatorSettings, kubeconfig: str = "") -> None:
        """Speak to the API server named by the file `kubeconfig`; without, to that of the pod the hub runs in."""
        self._settings, self._kubeconfig = settings, kubeconfig
        self._client: client.ApiClient | None = None

    @property
    def environment(self) -> Mapping[str, str]:
        """The Dask panel's way to the session's cluster."""
        return _SESSION

    async def make(self, launch: Launch, server_token: str) -> Cluster:
        """Write the cluster, its autoscaler and its keys. Raises DaskUnavailable."""
        namespace, keys = self._settings.namespace(launch), new_keys(launch.grant.server.max_age_seconds)
        api = await self._api()
        secrets, objects = client.CoreV1Api(api), client.CustomObjectsApi(api)
        secret = client.V1Secret(**keys_secret(launch, keys))
        made, scaled = dask_cluster(launch, self._settings), dask_autoscaler(launch)
        await _said(launch, secrets.create_namespaced_secret(namespace, secret))
        await _said(launch, objects.create_namespaced_custom_object(*_where(namespace, CLUSTERS), made))
        await _said(launch, objects.create_namespaced_custom_object(*_where(namespace, AUTOSCALERS), scaled))
        return Cluster(cluster_name(launch), session_variables(launch, self._settings, keys))

    async def settle(self, launch: Launch, cluster: str, server_token: str) -> None:
        """Return once the scheduler is ready. Raises DaskUnavailable, at once where Kubernetes refuses a pod."""
        try:
            async with asyncio.timeout(self._settings.start_seconds):
                await self._until_ready(launch, cluster)
        except TimeoutError:
            log.error("The Dask cluster of launch %s has no scheduler yet; does the operator run?", launch.id)
            raise DaskUnavailable(
                f"The Dask cluster {cluster} did not start in time.",
                "There may be no room for it now; try again later.",
            ) from None

    async def _until_ready(self, launch: Launch, cluster: str) -> None:
        while True:
            deployments = await self._deployments(launch, cluster)
            trouble = refused(deployments)
            if trouble is None and is_ready(deployments):
                return
            if trouble := trouble or await self._trouble(launch, cluster):
                raise _unavailable(launch, trouble)
            await asyncio.sleep(_LOOK_SECONDS)

    async def _deployments(self, launch: Launch, cluster: str) -> list[client.V1Deployment]:
        namespace, apps = self._settings.namespace(launch), client.AppsV1Api(await self._api())
        listing = apps.list_namespaced_deployment(namespace, label_selector=f"{CLUSTER_LABEL}={cluster}")
        return (await _said(launch, listing)).items

    async def _trouble(self, launch: Launch, cluster: str) -> Trouble | None:
        namespace, core = self._settings.namespace(launch), client.CoreV1Api(await self._api())
        pods = core.list_namespaced_pod(namespace, label_selector=f"{CLUSTER_LABEL}={cluster}")
        events = core.list_namespaced_event(namespace, field_selector=f"involvedObject.name={cluster}")
        return broken((await _said(launch, pods)).items) or refused_by_events((await _said(launch, events)).items)

    async def release(self, launch: Launch) -> None:
        """Delete the cluster with all that belongs to it. Raises DaskUnavailable."""
        namespace, name, api = self._settings.namespace(launch), cluster_name(launch), await self._api()
        objects, secrets = client.CustomObjectsApi(api), client.CoreV1Api(api)
        # the cluster first: whatever fails then, its pods end
        await _gone(launch, objects.delete_namespaced_custom_object(*_where(namespace, CLUSTERS), name))
        await _gone(launch, objects.delete_namespaced_custom_object(*_where(namespace, AUTOSCALERS), name))
        await _gone(launch, secrets.delete_namespaced_secret(KEYS_SECRET, namespace))

    async def close(self) -> None:
        """Close the connections to the API server."""
        if self._client is not None:
            await self._client.close()
            self._client = None

    async def _api(self) -> client.ApiClient:
        if self._client is None:
            settings = client.Configuration()
            if self._kubeconfig:
                await config.load_kube_config(self._kubeconfig, client_configuration=settings)
            else:
                config.load_incluster_config(client_configuration=settings)
            self._client = client.ApiClient(settings)
        return self._client


def _where(namespace: str, plural: str) -> tuple[str, str, str, str]:
    return GROUP, VERSION, namespace, plural


async def _said(launch: Launch, request: Awaitable[T]) -> T:
    """Return what the API server answers. Raises DaskUnavailable."""
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            return await request
    except client.ApiException as error:
        if error.status == _FORBIDDEN:
            raise _unavailable(launch, refusal("the Dask cluster", str(error.body))) from None
        what = f"{error.status}: {error.body!r}"
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        what = type(error).__name__
    raise _unavailable(launch, Trouble("Kubernetes did not give this launch its Dask cluster.", _AGAIN, what))


async def _gone(launch: Launch, deletion: Awaitable[object]) -> None:
    """Return once what `deletion` deletes is being deleted, or was not there. Raises DaskUnavailable."""

    async def delete() -> None:
        try:
            await deletion
        except client.ApiException as error:
            if error.status != _NOT_FOUND:
                raise

    await _said(launch, delete())


def _unavailable(launch: Launch, trouble: Trouble) -> DaskUnavailable:
    log.error("The Dask cluster of launch %s is in trouble: %s", launch.id, trouble.detail)
    return DaskUnavailable(trouble.message, trouble.hint)
