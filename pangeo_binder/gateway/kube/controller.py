"""dask-gateway's controller, which makes the pods of clusters on Kubernetes, adapted to launches. A process of its own.

`python -m pangeo_binder.gateway.kube.controller -f <config>` runs it. Unlike dask-gateway's own controller ("the stock
one"), it gives up on clusters that cannot start and says why, survives namespaces that are deleted while it works, and
limits pods to their launch's age. Each method that corrects a fault of dask-gateway's names it (2026.3.0,
`dask_gateway_server/backends/kubernetes/controller.py`).
"""

from __future__ import annotations

import math
import time
from typing import Any

from dask_gateway_server.backends.kubernetes.controller import (
    ClusterInfo,
    KubeController,
    get_cluster_key,
    get_container_status,
)
from dask_gateway_server.backends.kubernetes.utils import k8s_timestamp, parse_k8s_timestamp
from kubernetes_asyncio.client.rest import ApiException
from traitlets import Float, default

from ... import metrics
from ...kube.labels import COMPONENT_LABEL
from ...kube.pod_status import ENDED_PHASES
from ...kube.refusals import Refusal, Why, refusal_of
from ...logs import application_logging
from ..notices import MESSAGE
from .backoff import BackoffClient
from .schedulers import CONTAINER, why_ended, why_not_started
from .scrape import add_metrics

Cluster = dict[str, Any]
Pod = dict[str, Any]
Handled = tuple[dict[str, Any] | None, bool | None]
"""The cluster's new status (None: no change), and whether to reconcile it again soon."""

_WORKER = "dask-worker"
_ENDED = frozenset({"Stopped", "Failed"})
"""The phases of a cluster that has ended."""
_DEADLINE_GRACE_SECONDS = 60
"""So much later than the reaper ends a cluster in good order, its pods end by themselves."""


def _name(cluster: Cluster) -> tuple[str, str]:
    return cluster["metadata"]["namespace"], cluster["metadata"]["name"]


def _age_seconds(cluster: Cluster) -> float:
    made = parse_k8s_timestamp(cluster["metadata"]["creationTimestamp"])
    return time.time() - float(made) / 1000


class LaunchController(KubeController):
    """Makes and ends the pods of launches' clusters."""

    name = "pangeo-binder-dask-controller"
    logging_config = application_logging("dask-controller", base=KubeController.logging_config)

    start_seconds = Float(180, help="A cluster that does not run after this long has failed.", config=True)
    quota_seconds = Float(
        60,
        help="How long a refused scheduler is tried again, if the quota may get room or a permission may be granted.",
        config=True,
    )

    @default("completed_cluster_max_age")
    def _completed_cluster_max_age(self) -> float:
        """Long enough to read why a cluster failed; not longer, because a quota counts the records."""
        return 300.0

    @default("completed_cluster_cleanup_period")
    def _completed_cluster_cleanup_period(self) -> float:
        return 60.0

    @default("backoff_max_delay")
    def _backoff_max_delay(self) -> float:
        """Refused workers are tried again at least this often."""
        return 30.0

    async def setup(self) -> None:
        """Start the controller."""
        self._labels: dict[str, dict[str, str]] = {}
        self._refusals: dict[str, Refusal] = {}
        add_metrics(self.app)
        await super().setup()

    @property
    def custom_client(self) -> BackoffClient:
        """The client for records and routes; the stock `setup` assigns it just before its informers start."""
        return self._custom_client

    @custom_client.setter
    def custom_client(self, client: Any) -> None:
        self._custom_client = BackoffClient(client)

    @property
    def core_client(self) -> BackoffClient:
        """The client for pods and what belongs to them."""
        return self._core_client

    @core_client.setter
    def core_client(self, client: Any) -> None:
        self._core_client = BackoffClient(client)

    # events

    def on_cluster_update(self, cluster: Cluster, old: Cluster | None = None) -> None:
        """Remember the labels of the cluster's launch, and queue the cluster."""
        self._labels[cluster["metadata"]["name"]] = cluster["spec"]["config"].get("launch_labels", {})
        super().on_cluster_update(cluster, old)

    def on_cluster_delete(self, cluster: Cluster) -> None:
        """Forget the cluster. The stock one never forgets the cluster's pods."""
        super().on_cluster_delete(cluster)
        namespace, name = _name(cluster)
        self._labels.pop(name, None)
        self.cluster_info.pop(f"{namespace}.{name}", None)
        self._refusals.pop(f"{namespace}.{name}", None)

    def on_pod_delete(self, pod: Pod) -> None:
        """Note that a pod is gone. Its cluster's record may be gone already, and must not be remembered again."""
        super().on_pod_delete(pod)
        key = get_cluster_key(pod)
        if key is not None and self.informers["cluster"].get(key) is None:
            self.cluster_info.pop(key, None)

    def on_pod_update(self, pod: Pod, old: Pod | None = None) -> None:
        """Note a pod.

        The stock one ignores pods without a container's status. It would not count workers for which no node has room,
        so it would make new ones every ten minutes, and it would wait for a scheduler that was evicted.
        """
        super().on_pod_update(pod, old)
        key, component = get_cluster_key(pod), pod["metadata"]["labels"][COMPONENT_LABEL]
        if key is None or key in self.stopped_clusters or get_container_status(pod, component) is not None:
            return
        phase = pod["status"].get("phase")
        if component == _WORKER:
            info = self.cluster_info[key]
            if _note_worker(info, pod["metadata"]["name"], phase) or info.should_trigger():
                self.queue.put(key)
        elif component == CONTAINER and phase in ENDED_PHASES:
            self.queue.put(key)

    # reconciling

    async def reconcile_cluster(self, cluster_key: str) -> bool | None:
        """Reconcile a cluster. If its namespace or its record is gone, do nothing."""
        try:
            requeue: bool | None = await super().reconcile_cluster(cluster_key)
            return requeue
        except ApiException as error:
            refusal = refusal_of(error.status, error.body)
            if refusal.why not in (Why.ENDING, Why.MISSING, Why.PERMISSION):
                raise
            self.log.info("Cluster %s or its namespace is being deleted: %s", cluster_key, error.body)
            return refusal.why is Why.PERMISSION

    async def handle_cluster(self, cluster: Cluster) -> Handled:
        """Reconcile a cluster of any phase.

        The stock one leaves objects behind that it made but had not noted yet. If the watch reports the end of a pod
        before the status that the stock one wrote, it ends the cluster twice, the second time with another reason.
        """
        if ".".join(_name(cluster)) in self.stopped_clusters and cluster.get("status", {}).get("phase") not in _ENDED:
            return None, False
        if not cluster["spec"].get("active", True):
            cluster = {**cluster, "status": {**self._made(cluster), **cluster.get("status", {})}}
        handled: Handled = await super().handle_cluster(cluster)
        return handled

    async def patch_cluster_status(self, namespace: str, name: str, status: dict[str, Any]) -> None:
        """Write a cluster's status, and remember a cluster that has ended."""
        await super().patch_cluster_status(namespace, name, status)
        if status["phase"] in _ENDED:
            self.stopped_clusters[f"{namespace}.{name}"] = parse_k8s_timestamp(status["completionTime"])

    def _made(self, cluster: Cluster) -> dict[str, str]:
        """Return the objects of a cluster that have to be deleted; they own the others."""
        name = cluster["metadata"]["name"]
        return {"credentials": self.make_secret_name(name), "schedulerPod": f"{CONTAINER}-{name}"}

    def _scheduler_pod(self, cluster: Cluster) -> Pod | None:
        namespace, name = _name(cluster)
        pod: Pod | None = self.informers["pod"].get(f"{namespace}.{CONTAINER}-{name}")
        return pod

    async def handle_pending_cluster(self, cluster: Cluster) -> Handled:
        """Start a cluster within `start_seconds`. The stock one tries for ever."""
        namespace, name = _name(cluster)
        pod, left = self._scheduler_pod(cluster), self.start_seconds - _age_seconds(cluster)
        if pod is not None and (why := why_ended(pod)):
            return await self._failed(cluster, why)
        if left <= 0:
            return await self._failed(cluster, why_not_started(pod, self.start_seconds))
        self.queue.put_after(f"{namespace}.{name}", left + 1)
        try:
            status, requeue = await super().handle_pending_cluster(cluster)
        except ApiException as error:
            return await self._scheduler_refused(cluster, error)
        if status["phase"] != "Pending":
            status.pop(MESSAGE, None)
        return status, requeue

    async def _scheduler_refused(self, cluster: Cluster, error: ApiException) -> Handled:
        refusal = refusal_of(error.status, error.body)
        if refusal.why in (Why.ENDING, Why.MISSING, Why.CONFLICT, Why.UNAVAILABLE):
            raise error
        self._note_refusal(cluster, "scheduler", refusal, error)
        text = refusal.explanation("the scheduler of this Dask cluster")
        may_pass = refusal.is_temporary or refusal.why in (Why.QUOTA, Why.PERMISSION)
        if may_pass and _age_seconds(cluster) < self.quota_seconds:
            return {"phase": "Pending", **cluster.get("status", {}), MESSAGE: text}, True
        return await self._failed(cluster, text)

    def _note_refusal(self, cluster: Cluster, what: str, refusal: Refusal, error: ApiException) -> None:
        namespace, name = _name(cluster)
        self.log.warning("Kubernetes refused a %s of cluster %s.%s: %s", what, namespace, name, error.body)
        metrics.DASK_REFUSALS.labels(what, refusal.why).inc()

    async def _failed(self, cluster: Cluster, why: str) -> Handled:
        """Delete the cluster's objects, and write the reason for its user into its status."""
        namespace, name = _name(cluster)
        self.log.warning("Cluster %s.%s failed: %s", namespace, name, why)
        metrics.DASK_FAILURES.inc()
        await self.cleanup_cluster_resources({**self._made(cluster), **cluster.get("status", {})}, namespace)
        ended = {"phase": "Failed", "completionTime": k8s_timestamp(), MESSAGE: why}
        return {**cluster.get("status", {}), **ended}, False

    async def handle_running_cluster(self, cluster: Cluster) -> Handled:
        """Make and delete workers, and note in the status how many run and whether some were refused."""
        namespace, name = _name(cluster)
        key = f"{namespace}.{name}"
        if why := why_ended(self._scheduler_pod(cluster)):
            return await self._failed(cluster, why)
        status, requeue = await super().handle_running_cluster(cluster)
        info, refusal = self.cluster_info[key], self._refusals.pop(key, None)
        status["workers"] = len(info.running)
        if refusal is not None:
            status[MESSAGE] = refusal.explanation("more workers for this Dask cluster")
            return status, requeue and refusal.why is not Why.ENDING
        if len(info.running | info.pending) >= cluster["spec"].get("replicas", 0):
            status.pop(MESSAGE, None)
        return status, requeue

    async def create_pod(self, namespace: str, pod: Pod, info: ClusterInfo | None = None) -> Any:
        """Make a pod. A worker's refusal is kept for the cluster's status, where its user sees it."""
        try:
            return await super().create_pod(namespace, pod, info)
        except ApiException as error:
            refusal = refusal_of(error.status, error.body)
            self._refusals[f"{namespace}.{pod['metadata']['labels']['gateway.dask.org/cluster']}"] = refusal
            metrics.DASK_REFUSALS.labels("worker", refusal.why).inc()
            raise

    async def delete_pod(self, namespace: str, pod_name: str, info: ClusterInfo | None = None) -> None:
        """Delete a worker. The stock one reads `code` of an error that has `status`, so it fails on a missing one."""
        try:
            await self.core_client.delete_namespaced_pod(pod_name, namespace)
        except Exception as error:
            if info is not None and getattr(error, "status", None) == 404:
                info.on_worker_deleted(pod_name)
            elif info is not None:
                info.deletes -= 1
            if getattr(error, "status", None) != 404:
                self.log.warning("Failed to delete pod %s/%s: %s", namespace, pod_name, type(error).__name__)
                raise

    async def handle_scale_down(
        self, cluster: Cluster, sched_pod: Pod, info: ClusterInfo, replicas: int, delta: int
    ) -> bool:
        """Delete workers that have not started; `delta` is 0 or negative.

        The stock one slices a list with the negative number, so it deletes all but that many instead of that many.
        """
        failed: bool = await super().handle_scale_down(cluster, sched_pod, info, replicas, -delta)
        return failed

    # objects

    def get_labels(self, cluster_name: str, component: str | None = None) -> dict[str, str]:
        """Return the labels of a cluster's object: those of dask-gateway and those of the launch."""
        labels: dict[str, str] = super().get_labels(cluster_name, component)
        return {**self._labels.get(cluster_name, {}), **labels}

    def make_pod(self, namespace: str, cluster_name: str, config: Any, is_worker: bool = False) -> Pod:
        """Return a pod, which ends with its launch even if no process is left to end it."""
        pod: Pod = super().make_pod(namespace, cluster_name, config, is_worker)
        left = math.ceil(config.ends_at - time.time()) + _DEADLINE_GRACE_SECONDS
        pod["spec"]["activeDeadlineSeconds"] = max(1, left)
        return pod


def _note_worker(info: ClusterInfo, name: str, phase: str | None) -> bool:
    """Note a worker without a container's status; return whether it failed just now and has to be replaced."""
    if phase == "Pending":
        info.on_worker_pending(name)
    elif phase == "Succeeded":
        info.on_worker_succeeded(name)
    elif phase == "Failed":
        return bool(info.on_worker_failed(name))
    return False


main = LaunchController.launch_instance

if __name__ == "__main__":
    main()
