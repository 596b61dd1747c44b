"""Test each patch of dask-gateway's controller on a minimal cluster."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import defaultdict
from typing import Any

import pytest
from dask_gateway_server.backends.kubernetes.controller import ClusterInfo
from dask_gateway_server.utils import FrozenAttrDict
from dask_gateway_server.workqueue import WorkQueue
from kubernetes_asyncio.client.rest import ApiException

from pangeo_binder.gateway.kube.backend import LaunchClusterConfig
from pangeo_binder.gateway.kube.backoff import BackoffClient
from pangeo_binder.gateway.kube.controller import LaunchController
from pangeo_binder.gateway.notices import MESSAGE

KEY = "launch-a.abc"


def refused_with(status: int, message: str, reason: str = "") -> ApiException:
    error = ApiException(status=status)
    error.body = json.dumps({"message": message, "reason": reason})
    return error


class Core:
    """A client whose deletions fail with `status`, if any, and whose creations fail once with each of `bodies`."""

    def __init__(self, status: int = 0, *bodies: str) -> None:
        self.status, self.bodies = status, list(bodies)
        self.deleted: list[str] = []

    async def create_pod(self) -> str:
        if self.bodies:
            raise refused_with(self.status, self.bodies.pop(0))
        return "made"

    async def delete_namespaced_pod(self, name: str, namespace: str) -> None:
        self.deleted.append(name)
        if self.status:
            raise ApiException(status=self.status)

    delete_namespaced_secret = delete_namespaced_pod

    async def list_pods(self) -> None:
        raise ApiException(status=500)


@pytest.fixture
async def controller() -> LaunchController:
    made = LaunchController(gateway_instance="test")
    made.log = logging.getLogger("controller")
    made.core_client, made.queue = Core(), WorkQueue()
    made.cluster_info, made.stopped_clusters, made.informers = defaultdict(ClusterInfo), {}, {"pod": {}, "cluster": {}}
    made._labels, made._refusals = {}, {}
    return made


def info_of(controller: LaunchController, *pending: str) -> ClusterInfo:
    info = controller.cluster_info[KEY]
    for name in pending:
        info.on_worker_pending(name)
    info.set_expectations()
    return info


def cluster(**spec: Any) -> dict[str, Any]:
    metadata = {"namespace": "launch-a", "name": "abc", "creationTimestamp": "2026-01-01T00:00:00Z"}
    return {"metadata": metadata, "spec": {"config": {}, **spec}}


def pod(phase: str, component: str = "dask-worker", **status: Any) -> dict[str, Any]:
    labels = {"gateway.dask.org/cluster": "abc", "app.kubernetes.io/component": component}
    metadata = {"namespace": "launch-a", "name": "w1", "labels": labels}
    return {"metadata": metadata, "status": {"phase": phase, **status}}


@pytest.mark.parametrize(("wanted", "deleted"), [(4, 0), (3, 1), (2, 2), (0, 4)])
async def test_surplus_pending_workers_are_deleted(controller: LaunchController, wanted: int, deleted: int) -> None:
    core = controller.core_client._client
    info = info_of(controller, "w1", "w2", "w3", "w4")
    assert not await controller.handle_scale_down(cluster(), pod("Running"), info, wanted, wanted - 4)
    assert len(core.deleted) == deleted


async def test_a_worker_that_is_gone_is_forgotten(controller: LaunchController) -> None:
    controller.core_client = Core(404)
    info = info_of(controller, "w1")
    info.set_expectations(deletes=1)
    await controller.delete_pod("launch-a", "w1", info)
    assert info.expectations_fulfilled() and not info.pending


async def test_a_worker_that_cannot_be_deleted_is_not_waited_for(controller: LaunchController) -> None:
    controller.core_client = Core(500)
    info = info_of(controller, "w1")
    info.set_expectations(deletes=1)
    with pytest.raises(ApiException):
        await controller.delete_pod("launch-a", "w1", info)
    assert info.expectations_fulfilled() and info.pending == {"w1"}


@pytest.mark.parametrize(("phase", "noted"), [("Pending", "pending"), ("Failed", "failed"), ("Succeeded", "succeeded")])
async def test_a_worker_without_a_container_counts(controller: LaunchController, phase: str, noted: str) -> None:
    info = info_of(controller)
    info.set_expectations(creates=1)
    controller.on_pod_update(pod(phase))
    assert getattr(info, noted) == {"w1"} and info.expectations_fulfilled()
    assert not controller.queue.is_empty()


@pytest.mark.parametrize(("phase", "looked_at"), [("Failed", True), ("Pending", False)])
async def test_a_scheduler_that_ended_without_a_container_is_reconciled(
    controller: LaunchController, phase: str, looked_at: bool
) -> None:
    controller.on_pod_update(pod(phase, "dask-scheduler"))
    assert controller.queue.is_empty() is not looked_at


async def test_a_cluster_ends_once(controller: LaunchController) -> None:
    controller.stopped_clusters[KEY] = 1
    seen_late = {**cluster(active=True), "status": {"phase": "Running"}}
    assert await controller.handle_cluster(seen_late) == (None, False)
    assert controller.core_client._client.deleted == []


async def test_what_was_made_but_not_noted_is_deleted(controller: LaunchController) -> None:
    status, again = await controller.handle_cluster({**cluster(active=False), "status": {"phase": "Pending"}})
    assert status is not None and status["phase"] == "Stopped" and not again
    assert set(controller.core_client._client.deleted) == {"dask-scheduler-abc", "dask-credentials-abc"}


async def test_nothing_is_remembered_of_a_cluster_that_is_gone(controller: LaunchController) -> None:
    info_of(controller, "w1")
    controller.on_cluster_update(cluster())
    controller.on_cluster_delete(cluster())
    controller.on_pod_delete(pod("Running"))
    assert not controller.cluster_info and not controller._labels and not controller.stopped_clusters


@pytest.mark.parametrize(("left", "deadline"), [(600.0, 660), (-600.0, 1)])
async def test_a_pod_ends_with_its_launch(controller: LaunchController, left: float, deadline: int) -> None:
    controller.api_url = "http://gateway.example/api"
    config = LaunchClusterConfig(ends_at=time.time() + left).to_dict()
    made = controller.make_pod("launch-a", "abc", FrozenAttrDict(config), is_worker=True)
    assert deadline - 60 <= made["spec"]["activeDeadlineSeconds"] <= deadline


async def test_a_failing_list_pauses_and_no_other_request_does() -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(BackoffClient(Core()).list_pods(), 0.2)
    with pytest.raises(ApiException):
        await asyncio.wait_for(BackoffClient(Core(500)).delete_namespaced_pod("w", "n"), 60)
    with pytest.raises(ApiException):
        await BackoffClient(Core()).list_pods()


NO_ACCOUNT = 'pods "s" is forbidden: error looking up service account n/default: serviceaccount "default" not found'
NOT_COUNTED = 'pods "s" is forbidden: status unknown for quota: launch, resources: pods'
QUOTA_CONFLICT = 'Operation cannot be fulfilled on resourcequotas "launch": the object has been modified'
SECURITY = 'pods "s" is forbidden: violates PodSecurity "restricted:latest": runAsNonRoot != true'


def young() -> dict[str, Any]:
    found = cluster(active=True)
    found["metadata"]["creationTimestamp"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return found


@pytest.mark.parametrize("message", [NO_ACCOUNT, NOT_COUNTED])
async def test_a_new_namespace_does_not_fail_a_cluster(controller: LaunchController, message: str) -> None:
    status, again = await controller._scheduler_refused(young(), refused_with(403, message))
    assert status is not None and status["phase"] == "Pending" and again
    assert "still preparing this session's namespace" in status[MESSAGE]


async def test_a_namespace_that_stays_incomplete_fails_a_cluster(controller: LaunchController) -> None:
    status, again = await controller._scheduler_refused(cluster(active=True), refused_with(403, NO_ACCOUNT))
    assert status is not None and status["phase"] == "Failed" and not again


async def test_a_final_refusal_fails_a_cluster_at_once(controller: LaunchController) -> None:
    status, again = await controller._scheduler_refused(young(), refused_with(403, SECURITY))
    assert status is not None and status["phase"] == "Failed" and not again
    assert status[MESSAGE].startswith("The rules of this Kubernetes cluster do not allow the scheduler")


@pytest.mark.parametrize(("status", "reason"), [(404, "NotFound"), (503, "ServiceUnavailable"), (409, "Conflict")])
async def test_what_says_nothing_about_the_scheduler_is_raised(
    controller: LaunchController, status: int, reason: str
) -> None:
    with pytest.raises(ApiException):
        await controller._scheduler_refused(young(), refused_with(status, "no", reason))


async def test_a_conflict_of_the_quota_is_not_taken_for_an_object_that_exists() -> None:
    assert await BackoffClient(Core(409, QUOTA_CONFLICT, QUOTA_CONFLICT)).create_pod() == "made"
    with pytest.raises(ApiException):
        await BackoffClient(Core(409, 'pods "s" already exists')).create_pod()
