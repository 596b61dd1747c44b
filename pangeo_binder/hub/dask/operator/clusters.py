"""Dask clusters by the dask-kubernetes operator: the hub writes them into the launch's namespace and looks after them.

Runs in the hub, as a client of Kubernetes' API; what is written is decided in `operator_manifests`. The session gets no
access to these objects, so its one cluster is what the grant says and nothing a session does makes it more.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

import aiohttp
from kubernetes_asyncio import client

from ....errors import DaskUnavailable
from ....kube.api import FORBIDDEN, NEW_SECONDS, NOT_FOUND, KubeApi, once_it_may
from ....model import Launch
from ...provision import Cluster, Clusters
from .keys import new_keys
from .manifests import (
    AUTOSCALERS,
    CLUSTER_LABEL,
    CLUSTERS,
    GROUP,
    KEYS_SECRET,
    OPERATOR_POLICY,
    VERSION,
    OperatorSettings,
    cluster_name,
    dask_autoscaler,
    dask_cluster,
    keys_secret,
    operator_policy,
    session_variables,
)
from .status import Trouble, broken, has_pod, is_ready, refusal, refused, refused_to_operator

log = logging.getLogger(__name__)
T = TypeVar("T")

_LOOK_SECONDS = 2.0
_POD_LOOKS, _POD_LOOK_SECONDS = 10, 0.5
_ANSWER_SECONDS = 20.0
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
        self._settings = settings
        self._api = KubeApi(kubeconfig)

    @property
    def environment(self) -> Mapping[str, str]:
        """The Dask panel's way to the session's cluster."""
        return _SESSION

    async def make(self, launch: Launch, server_token: str) -> Cluster:
        """Write the cluster, its autoscaler, its keys, and the operator's way to it. Raises DaskUnavailable."""
        settings, keys = self._settings, new_keys(launch.grant.server.max_age_seconds)
        namespace, core, objects = settings.namespace(launch), await self._api.core(), await self._objects()
        policies = await self._api.networking()
        await _written(launch, core.create_namespaced_secret, namespace, keys_secret(launch, keys))
        await _written(launch, policies.create_namespaced_network_policy, namespace, operator_policy(launch, settings))
        write, where = objects.create_namespaced_custom_object, (GROUP, VERSION, namespace)
        await _written(launch, write, *where, CLUSTERS, dask_cluster(launch, settings))
        await self._until_pod(launch)
        await _written(launch, write, *where, AUTOSCALERS, dask_autoscaler(launch))
        return Cluster(cluster_name(launch), session_variables(launch, settings, keys))

    async def _until_pod(self, launch: Launch) -> None:
        """Return once the scheduler has a pod, or soon: an autoscaler that finds none looks again after a minute."""
        for _ in range(_POD_LOOKS):
            if has_pod(await self._deployments(launch, cluster_name(launch))):
                return
            await asyncio.sleep(_POD_LOOK_SECONDS)

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
        namespace, apps = self._settings.namespace(launch), client.AppsV1Api(await self._api.client())
        listing = apps.list_namespaced_deployment(namespace, label_selector=f"{CLUSTER_LABEL}={cluster}")
        return (await _said(launch, listing)).items

    async def _trouble(self, launch: Launch, cluster: str) -> Trouble | None:
        namespace, core, objects = self._settings.namespace(launch), await self._api.core(), await self._objects()
        pods = core.list_namespaced_pod(namespace, label_selector=f"{CLUSTER_LABEL}={cluster}")
        if trouble := broken((await _said(launch, pods)).items):
            return trouble
        record = objects.get_namespaced_custom_object(GROUP, VERSION, namespace, CLUSTERS, cluster)
        return refused_to_operator(await _said(launch, record))

    async def release(self, launch: Launch) -> None:
        """Delete the cluster with all that belongs to it. Raises DaskUnavailable."""
        namespace, name, objects = self._settings.namespace(launch), cluster_name(launch), await self._objects()
        apps, core, policies = client.AppsV1Api(await self._api.client()), await self._api.core(), self._api.networking
        delete, where = objects.delete_namespaced_custom_object, (GROUP, VERSION, namespace)
        await _gone(launch, delete(*where, CLUSTERS, name))
        # they would go with the cluster, but that waits for the operator, which may be away
        pods = apps.delete_collection_namespaced_deployment(namespace, label_selector=f"{CLUSTER_LABEL}={name}")
        await _gone(launch, pods)
        await _gone(launch, delete(*where, AUTOSCALERS, name))
        await _gone(launch, core.delete_namespaced_secret(KEYS_SECRET, namespace))
        await _gone(launch, (await policies()).delete_namespaced_network_policy(OPERATOR_POLICY, namespace))

    async def close(self) -> None:
        """Close the connections to the API server."""
        await self._api.close()

    async def _objects(self) -> client.CustomObjectsApi:
        return client.CustomObjectsApi(await self._api.client())


async def _written(launch: Launch, create: Callable[..., Awaitable[Any]], *where_and_what: Any) -> None:
    """Create an object, again where its namespace is too new to be asked. Raises DaskUnavailable."""
    await _said(launch, once_it_may(lambda: create(*where_and_what)), NEW_SECONDS + _ANSWER_SECONDS)


async def _gone(launch: Launch, deletion: Awaitable[object]) -> None:
    """Return once what `deletion` deletes is being deleted, or was not there. Raises DaskUnavailable."""

    async def delete() -> None:
        try:
            await deletion
        except client.ApiException as error:
            if error.status != NOT_FOUND:
                raise

    await _said(launch, delete())


async def _said(launch: Launch, request: Awaitable[T], seconds: float = _ANSWER_SECONDS) -> T:
    """Return what the API server answers. Raises DaskUnavailable."""
    try:
        async with asyncio.timeout(seconds):
            return await request
    except client.ApiException as error:
        if error.status == FORBIDDEN:
            raise _unavailable(launch, refusal("the Dask cluster", str(error.body))) from None
        what = f"{error.status} {error.reason}"  # not the body, which may repeat what was sent
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        what = type(error).__name__
    again = "Try again in a minute."
    raise _unavailable(launch, Trouble("Kubernetes did not give this launch its Dask cluster.", again, what))


def _unavailable(launch: Launch, trouble: Trouble) -> DaskUnavailable:
    log.error("The Dask cluster of launch %s is in trouble: %s", launch.id, trouble.detail)
    return DaskUnavailable(trouble.message, trouble.hint)
