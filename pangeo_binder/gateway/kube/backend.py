"""dask-gateway's Kubernetes backend, limited by launches: clusters are in their launch's namespace.

Runs in the gateway's API server, which only writes and reads the clusters' records (DaskCluster); the other process
(`controller`) makes the pods. What all backends have in common is in `launches`.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Callable
from typing import Any

from aiohttp import web
from dask_gateway_server.backends.base import PublicException
from dask_gateway_server.backends.kubernetes.backend import KubeBackend, KubeClusterConfig
from dask_gateway_server.models import ClusterStatus
from dask_gateway_server.traitlets import MemoryLimit
from kubernetes_asyncio.client.rest import ApiException
from traitlets import Bool, Dict, Float, Unicode, default

from ...kube.labels import COMPONENT_LABEL
from ...kube.placement import Placement
from ...kube.refusals import CLUSTER_COUNT, Refusal, Why, refusal_of
from ...model import Launch
from ..auth import LaunchUser
from ..launches import LaunchBackendMixin, too_many
from ..notices import add_message, launch_cluster
from ..options import Runtime
from .backoff import BackoffClient
from .pods import cluster_config
from .scrape import add_metrics

_PYTHON = "python"
"""Found on the image's PATH; the image's entrypoint, if any, is kept."""
_SEEN_SECONDS = 5.0
"""How long the watch may take to report a change; normally some milliseconds."""
_RECORD_SECONDS = 10.0
"""How long a quota may take to be counted, or to notice that the records of ended clusters are gone."""
_RECORD_POLL_SECONDS = 0.2
_ACTIVE = ClusterStatus.RUNNING
"""Up to this status a cluster counts against the limits."""


class LaunchClusterConfig(KubeClusterConfig):
    """The configuration of one cluster of a launch."""

    launch_labels = Dict(help="Labels of all objects of the cluster's launch.", config=True)
    ends_at = Float(help="When the cluster has to be gone, in seconds since the epoch.", config=True)
    # a scheduler does none of the user's work, but launched code runs in it: it is small, with limits
    scheduler_cores = Float(0.25, min=0, help="Cores a scheduler requests.", config=True)
    scheduler_cores_limit = Float(1, min=0, help="Cores a scheduler may use.", config=True)
    scheduler_memory = MemoryLimit("1 G", help="Memory of a scheduler, in bytes or with a suffix.", config=True)


class KubeLaunchBackend(LaunchBackendMixin, KubeBackend):
    """Clusters as pods, each of its launch's own image."""

    namespace_prefix = Unicode("launch", help="The prefix of the launches' own namespaces.", config=True)
    shared_namespace = Unicode("", help="One namespace for all launches, instead of one each.", config=True)
    pull_login = Bool(False, help="Whether each launch has a Secret to pull its image with.", config=True)
    tier_pods = Dict(
        help="Nodes and priority of a tier's pods: `pangeo_binder.kube.pods.TierPods` by tier.", config=True
    )

    @default("cluster_config_class")
    def _cluster_config_class(self) -> type[LaunchClusterConfig]:
        return LaunchClusterConfig

    async def setup(self, app: web.Application) -> None:
        """Start the backend."""
        self._placement = Placement(self.namespace_prefix, self.shared_namespace, self.tier_pods)
        self._changed = asyncio.Event()
        app.middlewares.append(add_message)
        add_metrics(app)
        await super().setup(app)

    @property
    def custom_client(self) -> BackoffClient:
        """The client for records; dask-gateway's own `setup` assigns it just before its informer starts."""
        return self._custom_client

    @custom_client.setter
    def custom_client(self, client: Any) -> None:
        self._custom_client = BackoffClient(client)

    async def runtime(self, launch: Launch, ends_at: float) -> Runtime:
        """Return the launch's own image and its pods' configuration; storage variables are in the launch's Secret."""
        config = cluster_config(launch, ends_at, self._placement, pull_login=self.pull_login)
        return Runtime(_PYTHON, {}, config)

    async def all_clusters(self) -> list[dict[str, Any]]:
        """Return each active cluster for the operator's `status` command."""
        return [
            {
                "name": cluster.name,
                "owner": cluster.username,
                "status": cluster.status.name,
                "workers": cluster.running_workers,
                "max_workers": cluster.config.get("cluster_max_workers"),
            }
            for cluster in await self.list_clusters()
        ]

    def ends_at(self, cluster: Any) -> float:
        """Return when the cluster's launch reaches its maximum age, in seconds since the epoch."""
        return float(cluster.config.get("ends_at", math.inf))

    async def make_cluster(self, user: LaunchUser, cluster_options: dict[str, Any]) -> str:
        """Make a cluster's record. Raises PublicException with a sentence if Kubernetes refuses it."""
        freeing, give_up = False, time.monotonic() + _RECORD_SECONDS
        while True:
            try:
                name = await super().make_cluster(user, cluster_options)
                break
            except ApiException as error:
                refusal = self._refusal(user, error)
                if CLUSTER_COUNT in refusal.resources:
                    # a quota also counts the records of ended clusters
                    freeing = await self._forget_ended(user.name) or freeing
                if not (freeing or refusal.is_temporary) or time.monotonic() > give_up:
                    raise await self._refused(user, refusal) from None
            await asyncio.sleep(_RECORD_POLL_SECONDS)
        # the next request of this launch counts what the informer has seen
        await self._until(lambda: name in self.clusters)
        return name

    def _refusal(self, user: LaunchUser, error: ApiException) -> Refusal:
        refusal = refusal_of(error.status, error.body)
        self.log.warning("Kubernetes refused a cluster of %s: %s", user.name, error.body)
        return refusal

    async def _refused(self, user: LaunchUser, refusal: Refusal) -> PublicException:
        active = [cluster.name for cluster in await self.list_clusters(username=user.name)]
        if refusal.why is Why.QUOTA and CLUSTER_COUNT in refusal.resources and active:
            assert user.launch is not None and user.launch.grant.dask is not None
            return too_many(user.launch.grant.dask.clusters, active)
        return PublicException(refusal.explanation("another Dask cluster"))

    async def _forget_ended(self, owner: str) -> bool:
        """Delete the records of the owner's ended clusters; return whether a cluster has ended or is ending."""
        going = [each for each in self.username_to_clusters.get(owner, {}).values() if each.status > _ACTIVE]
        for cluster in going:
            if cluster.status < ClusterStatus.STOPPED:
                continue
            namespace, name = cluster.name.split(".")
            place = ("gateway.dask.org", self.crd_version, namespace, "daskclusters", name)
            try:
                await self.custom_client.delete_namespaced_custom_object(*place)
            except ApiException as error:
                if error.status != 404:
                    raise
        return bool(going)

    async def stop_cluster(self, cluster_name: str, failed: bool = False) -> None:
        """Stop a cluster, and return when it no longer counts. If its namespace is gone, it has stopped."""
        try:
            await super().stop_cluster(cluster_name, failed)
        except ApiException as error:
            if error.status != 404:
                raise
            return
        await self._until(lambda: not self._active(cluster_name))

    def _active(self, cluster_name: str) -> bool:
        cluster = self.clusters.get(cluster_name)
        return cluster is not None and cluster.status <= _ACTIVE

    async def _until(self, true: Callable[[], bool]) -> None:
        """Return once `true()` is true, or after the time that the watch may take to report it."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_SEEN_SECONDS):
                while not true():
                    await self._changed.wait()

    async def get_cluster(self, cluster_name: str, wait: bool = False) -> Any:
        """Return a cluster, or None. dask-gateway's own method never forgets a name that a request waited for."""
        if wait:
            await self._until(lambda: cluster_name in self.clusters)
        return await super().get_cluster(cluster_name, wait and cluster_name in self.clusters)

    async def sync_cluster(self, cluster_name: str) -> None:
        """Update a cluster from its record."""
        try:
            await super().sync_cluster(cluster_name)
        except ApiException as error:
            # its Secret is gone, so the cluster is ending, and its record shows when it has ended
            if error.status != 404:
                raise
        record, stock = self.informer.get(cluster_name), self.clusters.get(cluster_name)
        if record is not None and stock is not None:
            cluster = launch_cluster(stock, record["spec"], record.get("status", {}))
            self.clusters[cluster_name] = self.username_to_clusters[cluster.username][cluster_name] = cluster
        self._changed.set()
        self._changed = asyncio.Event()

    async def on_cluster_heartbeat(self, cluster_name: str, msg: dict[str, Any]) -> None:
        """Scale to the number of workers that a scheduler wants. Launched code runs in it, so it may send anything."""
        count = msg.get("count")
        if type(count) is not int or count < 0:
            raise PublicException("A heartbeat has a whole number of workers.")
        lists = (msg.get(key) for key in ("active_workers", "closing_workers", "closed_workers"))
        if not all(isinstance(each, list) for each in lists):
            raise PublicException("A heartbeat has three lists of workers.")
        await super().on_cluster_heartbeat(cluster_name, msg)

    def make_cluster_object(self, username: str, options: Any, config: LaunchClusterConfig) -> dict[str, Any]:
        """Return a cluster's record with the labels of its launch."""
        record: dict[str, Any] = super().make_cluster_object(username, options, config)
        record["metadata"]["labels"].update({COMPONENT_LABEL: "dask", **config.launch_labels})
        return record
