"""dask-gateway's controller, which makes the pods of clusters on Kubernetes, as launches need it. A process of its own.

`python -m pangeo_binder.gateway.kube.controller -f <config>` runs it. Beyond the stock one it gives up on what cannot
start and says why, copes with namespaces that end under it, and bounds pods by their launch's age. Each method that
mends dask-gateway says what it mends (2026.3.0, `dask_gateway_server/backends/kubernetes/controller.py`).
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
from ...kube.refusals import Refusal, Why, refusal_of
from .backoff import BackoffClient
from .notices import MESSAGE
from .pods import COMPONENT_LABEL
from .schedulers import CONTAINER, ENDED_PHASES, why_ended, why_not_started
from .scrape import add_metrics

Cluster = dict[str, Any]
Pod = dict[str, Any]
Handled = tuple[dict[str, Any] | None, bool | None]
"""The status a cluster is to have (None: leave it), and whether to look at it again soon."""

_WORKER = "dask-worker"
_ENDED = frozenset({"Stopped", "Failed"})
"""The phases of a cluster that is no more."""
_DEADLINE_GRACE_SECONDS = 60
"""The reaper ends clusters in good order; this much later their pods end with or without it."""


def _name(cluster: Cluster) -> tuple[str, str]:
    return cluster["metadata"]["namespace"], cluster["metadata"]["name"]


def _age_seconds(cluster: Cluster) -> float:
    made = parse_k8s_timestamp(cluster["metadata"]["creationTimestamp"])
    return time.time() - float(made) / 1000


class LaunchController(KubeController):
    """Makes and ends the pods of launches' clusters."""

    name = "pangeo-binder-dask-controller"

    start_seconds = Float(180, help="A cluster that does not run after this long has failed.", config=True)
    quota_seconds = Float(
        60,
        help="How long a scheduler that is refused is tried again, if a quota may have room or a permission come.",
        config=True,
    )

    @default("completed_cluster_max_age")
    def _completed_cluster_max_age(self) -> float:
        """Long enough for a person to read why a cluster failed; a quota on their number counts records."""
        return 300.0

    @default("completed_cluster_cleanup_period")
    def _completed_cluster_cleanup_period(self) -> float:
        return 60.0

    @default("backoff_max_delay")
    def _backoff_max_delay(self) -> float:
        """Workers that a quota refused are tried again this often, at least."""
        return 30.0

    async def setup(self) -> None:
        """Start the controller."""
        self._labels: dict[str, dict[str, str]] = {}
        self._refusals: dict[str, Refusal] = {}
        add_metrics(self.app)
        await super().setup()

    @property
    def custom_client(self) -> BackoffClient:
        """The client for records and routes; the stock set-up assigns it just before its informers start."""
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

    # what is seen

    def on_cluster_update(self, cluster: Cluster, old: Cluster | None = None) -> None:
        """Remember the labels of the cluster's launch, and look at it."""
        self._labels[cluster["metadata"]["name"]] = cluster["spec"]["config"].get("launch_labels", {})
        super().on_cluster_update(cluster, old)

    def on_cluster_delete(self, cluster: Cluster) -> None:
        """Forget the cluster. The stock one keeps what it knew of its pods for ever."""
        super().on_cluster_delete(cluster)
        namespace, name = _name(cluster)
        self._labels.pop(name, None)
        self.cluster_info.pop(f"{namespace}.{name}", None)
        self._refusals.pop(f"{namespace}.{name}", None)

    def on_pod_delete(self, pod: Pod) -> None:
        """Take note of a pod's end; pods outlive their cluster's record by a moment, which brings nothing back."""
        super().on_pod_delete(pod)
        key = get_cluster_key(pod)
        if key is not None and self.informers["cluster"].get(key) is None:
            self.cluster_info.pop(key, None)

    def on_pod_update(self, pod: Pod, old: Pod | None = None) -> None:
        """Take note of a pod.

        The stock one overlooks pods without a container's status. Workers that no node has room for would not count
        and be made again every ten minutes, and a scheduler that was evicted would be waited for.
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

    # what is done

    async def reconcile_cluster(self, cluster_key: str) -> bool | None:
        """Bring a cluster nearer to what it should be. One whose namespace or record is gone is left alone."""
        try:
            requeue: bool | None = await super().reconcile_cluster(cluster_key)
            return requeue
        except ApiException as error:
            refusal = refusal_of(error.status, error.body)
            if refusal is None or refusal.why not in (Why.ENDING, Why.PERMISSION):
                raise
            self.log.info("Cluster %s is going, or its namespace is: %s", cluster_key, error.body)
            return refusal.why is Why.PERMISSION

    async def handle_cluster(self, cluster: Cluster) -> Handled:
        """Do what a cluster needs.

        The stock one leaves objects behind that it made but had not noted yet. And where the end of the pod it deleted
        is seen before the status it wrote, it ends a cluster twice, and the second end has another reason.
        """
        if ".".join(_name(cluster)) in self.stopped_clusters and cluster.get("status", {}).get("phase") not in _ENDED:
            return None, False
        if not cluster["spec"].get("active", True):
            cluster = {**cluster, "status": {**self._made(cluster), **cluster.get("status", {})}}
        handled: Handled = await super().handle_cluster(cluster)
        return handled

    async def patch_cluster_status(self, namespace: str, name: str, status: dict[str, Any]) -> None:
        """Write a cluster's status, and remember it where it is the last."""
        await super().patch_cluster_status(namespace, name, status)
        if status["phase"] in _ENDED:
            self.stopped_clusters[f"{namespace}.{name}"] = parse_k8s_timestamp(status["completionTime"])

    def _made(self, cluster: Cluster) -> dict[str, str]:
        """Return what a cluster may have that has to be deleted; the rest belongs to these."""
        name = cluster["metadata"]["name"]
        return {"credentials": self.make_secret_name(name), "schedulerPod": f"{CONTAINER}-{name}"}

    def _scheduler_pod(self, cluster: Cluster) -> Pod | None:
        namespace, name = _name(cluster)
        pod: Pod | None = self.informers["pod"].get(f"{namespace}.{CONTAINER}-{name}")
        return pod

    async def handle_pending_cluster(self, cluster: Cluster) -> Handled:
        """Start a cluster, for as long as it may take. The stock one tries for ever."""
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
        if refusal is None or refusal.why is Why.ENDING:
            raise error
        self._note_refusal(cluster, "scheduler", refusal, error)
        sentence = refusal.sentence("the scheduler of this Dask cluster")
        if refusal.why in (Why.QUOTA, Why.NOT_YET, Why.PERMISSION) and _age_seconds(cluster) < self.quota_seconds:
            return {"phase": "Pending", **cluster.get("status", {}), MESSAGE: sentence}, True
        return await self._failed(cluster, sentence)

    def _note_refusal(self, cluster: Cluster, what: str, refusal: Refusal, error: ApiException) -> None:
        namespace, name = _name(cluster)
        self.log.warning("Kubernetes refused a %s of cluster %s.%s: %s", what, namespace, name, error.body)
        metrics.DASK_REFUSALS.labels(what, refusal.why).inc()

    async def _failed(self, cluster: Cluster, why: str) -> Handled:
        """Take away what the cluster has, and let its person know why."""
        namespace, name = _name(cluster)
        self.log.warning("Cluster %s.%s failed: %s", namespace, name, why)
        metrics.DASK_FAILURES.inc()
        await self.cleanup_cluster_resources({**self._made(cluster), **cluster.get("status", {})}, namespace)
        ended = {"phase": "Failed", "completionTime": k8s_timestamp(), MESSAGE: why}
        return {**cluster.get("status", {}), **ended}, False

    async def handle_running_cluster(self, cluster: Cluster) -> Handled:
        """Make and delete workers, and note how many there are and whether some were refused."""
        namespace, name = _name(cluster)
        key = f"{namespace}.{name}"
        if why := why_ended(self._scheduler_pod(cluster)):
            return await self._failed(cluster, why)
        status, requeue = await super().handle_running_cluster(cluster)
        info, refusal = self.cluster_info[key], self._refusals.pop(key, None)
        status["workers"] = len(info.running)
        if refusal is not None:
            status[MESSAGE] = refusal.sentence("more workers for this Dask cluster")
            return status, requeue and refusal.why is not Why.ENDING
        if len(info.running | info.pending) >= cluster["spec"].get("replicas", 0):
            status.pop(MESSAGE, None)
        return status, requeue

    async def create_pod(self, namespace: str, pod: Pod, info: ClusterInfo | None = None) -> Any:
        """Make a worker. A refusal is also the person's to know, so it is kept for the cluster's status."""
        try:
            return await super().create_pod(namespace, pod, info)
        except ApiException as error:
            refusal = refusal_of(error.status, error.body)
            if refusal is not None:
                self._refusals[f"{namespace}.{pod['metadata']['labels']['gateway.dask.org/cluster']}"] = refusal
                metrics.DASK_REFUSALS.labels("worker", refusal.why).inc()
            raise

    async def delete_pod(self, namespace: str, pod_name: str, info: ClusterInfo | None = None) -> None:
        """Delete a worker. The stock one reads `code` of an error that has `status`, and so fails where one is gone."""
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
        """Delete workers that have not started. `delta` is not above 0.

        The stock one slices with it as it is, and so deletes all but that many instead of that many.
        """
        failed: bool = await super().handle_scale_down(cluster, sched_pod, info, replicas, -delta)
        return failed

    # what is made

    def get_labels(self, cluster_name: str, component: str | None = None) -> dict[str, str]:
        """Return the labels of one of a cluster's objects: dask-gateway's and its launch's."""
        labels: dict[str, str] = super().get_labels(cluster_name, component)
        return {**self._labels.get(cluster_name, {}), **labels}

    def make_pod(self, namespace: str, cluster_name: str, config: Any, is_worker: bool = False) -> Pod:
        """Return a pod, which ends with its launch even where nobody is left to end it."""
        pod: Pod = super().make_pod(namespace, cluster_name, config, is_worker)
        left = math.ceil(config.ends_at - time.time()) + _DEADLINE_GRACE_SECONDS
        pod["spec"]["activeDeadlineSeconds"] = max(1, left)
        return pod


def _note_worker(info: ClusterInfo, name: str, phase: str | None) -> bool:
    """Note a worker without a container's status; return whether it failed just now, so that another is to be made."""
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
