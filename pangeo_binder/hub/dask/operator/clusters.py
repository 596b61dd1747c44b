"""Dask clusters by the dask-kubernetes operator: the hub creates them in the launch's namespace and deletes them.

Runs in the hub, as a client of the Kubernetes API; what the objects contain is decided in `manifests`. The session has
no access to these objects, so nothing that a session does makes its one cluster larger than the grant says.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from kubernetes_asyncio.client.rest import ApiException

from ....errors import DaskUnavailable
from ....kube.api import (
    NEW_NAMESPACE_SECONDS,
    NO_ANSWER,
    KubeApi,
    delete_if_present,
    log_text,
    refusal_by,
    retry_temporary,
)
from ....kube.pod_status import Json
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
from .status import (
    ClusterFailure,
    has_pod,
    is_ready,
    operator_refusal,
    pod_refusal,
    refusal_failure,
    scheduler_failure,
)

log = logging.getLogger(__name__)
T = TypeVar("T")

_POLL_SECONDS = 2.0
_POD_POLLS, _POD_POLL_SECONDS = 10, 0.5
_ANSWER_SECONDS = 20.0
_SESSION = {
    "DASK_LABEXTENSION__FACTORY__MODULE": "pangeo_binder_session.dask",
    "DASK_LABEXTENSION__FACTORY__CLASS": "attach",
}


class OperatorClusters(Clusters):
    """One cluster for each launch, which scales itself within the tier's bounds."""

    on_request = False
    without = "No Dask cluster could be made now; this session continues without one"

    def __init__(self, settings: OperatorSettings, kubeconfig: str = "") -> None:
        """Use the API server in the file `kubeconfig`; without one, that of the cluster the hub runs in."""
        self._settings = settings
        self._api = KubeApi(kubeconfig)

    @property
    def environment(self) -> Mapping[str, str]:
        """Variables with which the Dask panel finds the session's cluster."""
        return _SESSION

    async def make(self, launch: Launch, server_token: str) -> Cluster:
        """Create the cluster, its autoscaler, its keys and its NetworkPolicy. Raises DaskUnavailable."""
        settings, keys = self._settings, new_keys(launch.grant.server.max_age_seconds)
        namespace, core = settings.placement.namespace(launch), await self._api.core()
        objects, policies = await self._api.custom_objects(), await self._api.networking()
        await _create(launch, core.create_namespaced_secret, namespace, keys_secret(launch, keys))
        await _create(launch, policies.create_namespaced_network_policy, namespace, operator_policy(launch, settings))
        write, where = objects.create_namespaced_custom_object, (GROUP, VERSION, namespace)
        await _create(launch, write, *where, CLUSTERS, dask_cluster(launch, settings))
        await self._until_pod(launch)
        await _create(launch, write, *where, AUTOSCALERS, dask_autoscaler(launch))
        return Cluster(cluster_name(launch), session_variables(launch, settings, keys))

    async def _until_pod(self, launch: Launch) -> None:
        """Wait a few seconds for the scheduler's pod: an autoscaler that finds none looks again after a minute."""
        for _ in range(_POD_POLLS):
            if has_pod(await self._deployments(launch, cluster_name(launch))):
                return
            await asyncio.sleep(_POD_POLL_SECONDS)

    async def settle(self, launch: Launch, cluster: str, server_token: str) -> None:
        """Wait until the scheduler is ready. Raises DaskUnavailable, at once if Kubernetes refuses a pod."""
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
            failure = pod_refusal(deployments)
            if failure is None and is_ready(deployments):
                return
            if failure := failure or await self._failure(launch, cluster):
                raise _unavailable(launch, failure)
            await asyncio.sleep(_POLL_SECONDS)

    async def _deployments(self, launch: Launch, cluster: str) -> list[Json]:
        namespace, apps = self._settings.placement.namespace(launch), await self._api.apps()
        listing = apps.list_namespaced_deployment(namespace, label_selector=f"{CLUSTER_LABEL}={cluster}")
        found: list[Json] = await self._api.as_json((await _answered(launch, listing)).items)
        return found

    async def _failure(self, launch: Launch, cluster: str) -> ClusterFailure | None:
        namespace, core = self._settings.placement.namespace(launch), await self._api.core()
        listing = core.list_namespaced_pod(namespace, label_selector=f"{CLUSTER_LABEL}={cluster}")
        pods = await self._api.as_json((await _answered(launch, listing)).items)
        if failure := scheduler_failure(pods):
            return failure
        objects = await self._api.custom_objects()
        reading = objects.get_namespaced_custom_object(GROUP, VERSION, namespace, CLUSTERS, cluster)
        return operator_refusal(await _answered(launch, reading))

    async def release(self, launch: Launch) -> None:
        """Delete the cluster with all that belongs to it. Raises DaskUnavailable."""
        namespace, name = self._settings.placement.namespace(launch), cluster_name(launch)
        apps, core, policies = await self._api.apps(), await self._api.core(), await self._api.networking()
        delete, where = (await self._api.custom_objects()).delete_namespaced_custom_object, (GROUP, VERSION, namespace)
        await _delete(launch, delete(*where, CLUSTERS, name))
        # the operator would delete the Deployments after the cluster, but it may not run now
        deployments = apps.delete_collection_namespaced_deployment(namespace, label_selector=f"{CLUSTER_LABEL}={name}")
        await _delete(launch, deployments)
        await _delete(launch, delete(*where, AUTOSCALERS, name))
        await _delete(launch, core.delete_namespaced_secret(KEYS_SECRET, namespace))
        await _delete(launch, policies.delete_namespaced_network_policy(OPERATOR_POLICY, namespace))

    async def close(self) -> None:
        """Close the connections to the API server."""
        await self._api.close()


async def _create(launch: Launch, create: Callable[..., Awaitable[Any]], *where_and_what: Any) -> None:
    """Create an object, again while its refusal is temporary. Raises DaskUnavailable."""
    creation = retry_temporary(lambda: create(*where_and_what))
    await _answered(launch, creation, NEW_NAMESPACE_SECONDS + _ANSWER_SECONDS)


async def _delete(launch: Launch, deletion: Awaitable[object]) -> None:
    """Return once the object that `deletion` deletes is being deleted or does not exist. Raises DaskUnavailable."""
    await _answered(launch, delete_if_present(deletion))


async def _answered(launch: Launch, request: Awaitable[T], seconds: float = _ANSWER_SECONDS) -> T:
    """Return the API server's answer. Raises DaskUnavailable."""
    try:
        async with asyncio.timeout(seconds):
            return await request
    except ApiException as error:
        refusal = refusal_by(error)
        raise _unavailable(launch, refusal_failure("the Dask cluster", refusal, log_text(error))) from None
    except NO_ANSWER as error:
        detail = type(error).__name__
    message = "Kubernetes did not give this launch its Dask cluster."
    raise _unavailable(launch, ClusterFailure(message, "Try again in a minute.", detail))


def _unavailable(launch: Launch, failure: ClusterFailure) -> DaskUnavailable:
    log.error("The Dask cluster of launch %s failed: %s", launch.id, failure.detail)
    return DaskUnavailable(failure.message, failure.hint)
