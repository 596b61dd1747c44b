"""What a cluster's objects tell: ready, refused for good, or only not yet."""

from __future__ import annotations

import pytest
from kubernetes_asyncio import client

from pangeo_binder.hub.dask.operator.status import broken, has_pod, is_ready, refusal, refused, refused_to_operator

QUOTA = (
    'pods "dask-a-scheduler-1" is forbidden: exceeded quota: launch, requested: limits.cpu=1,limits.memory=1Gi,'
    " used: limits.cpu=2,limits.memory=2Gi, limited: limits.cpu=2,limits.memory=2Gi"
)
NOT_YET = 'pods "dask-a-scheduler-1" is forbidden: status unknown for quota: launch, resources: pods'
RULES = 'pods "dask-a" is forbidden: violates PodSecurity "restricted:latest": allowPrivilegeEscalation != false'


def deployment(component: str, message: str = "", ready: int = 0) -> client.V1Deployment:
    failed = client.V1DeploymentCondition(type="ReplicaFailure", status="True", message=message)
    status = client.V1DeploymentStatus(ready_replicas=ready, replicas=1, conditions=[failed] if message else None)
    return client.V1Deployment(metadata=client.V1ObjectMeta(labels={"dask.org/component": component}), status=status)


def pod(component: str, restarts: int = 0, waiting: str = "") -> client.V1Pod:
    state = client.V1ContainerState(waiting=client.V1ContainerStateWaiting(reason=waiting) if waiting else None)
    each = client.V1ContainerStatus(
        name=component, image="", image_id="", ready=False, restart_count=restarts, state=state
    )
    labels = client.V1ObjectMeta(labels={"dask.org/component": component})
    return client.V1Pod(metadata=labels, status=client.V1PodStatus(container_statuses=[each]))


def test_only_a_scheduler_makes_a_cluster_ready():
    assert is_ready([deployment("worker"), deployment("scheduler", ready=1)])
    assert not is_ready([deployment("worker", ready=1), deployment("scheduler")])
    assert not is_ready([]) and not has_pod([deployment("worker")]) and has_pod([deployment("scheduler")])


def test_a_refusal_is_a_sentence_and_what_kubernetes_said_is_for_the_log():
    trouble = refused([deployment("worker", QUOTA), deployment("scheduler", QUOTA)])
    used_up = "because the quota of cores and memory is used up."
    assert trouble.message == f"Kubernetes refused the Dask cluster's scheduler, {used_up}"
    assert "launch" not in trouble.message + trouble.hint and trouble.detail == QUOTA


def test_a_namespace_that_is_too_new_is_not_a_refusal():
    assert refused([deployment("scheduler", NOT_YET)]) is None
    assert refused([deployment("scheduler")]) is None


def test_what_waiting_does_not_change_is_told_at_once():
    assert (
        refused([deployment("scheduler", RULES)]).message
        == "Kubernetes' rules here do not allow the Dask cluster's scheduler."
    )
    assert refusal("the Dask cluster", RULES).hint


def test_a_quota_that_was_not_counted_in_time_is_told_as_that():
    assert refusal("the Dask cluster", NOT_YET).message == "Kubernetes does not count this launch's quota yet."


def test_what_the_operator_met_is_read_in_its_notes():
    noted = {"kopf.zalando.org/daskcluster_create_components.status.phase": f'{{"message":"{QUOTA[40:]}"}}'}
    assert "quota of cores" in refused_to_operator({"metadata": {"annotations": noted}}).message
    assert refused_to_operator({"metadata": {"annotations": {"somebody.else/note": QUOTA}}}) is None
    assert refused_to_operator({"metadata": {}}) is None


@pytest.mark.parametrize(
    ("restarts", "waiting"), [(2, "CrashLoopBackOff"), (0, "ImagePullBackOff"), (0, "InvalidImageName")]
)
def test_a_scheduler_that_never_will_run_is_not_waited_for(restarts, waiting):
    assert broken([pod("scheduler", restarts, waiting)]).hint
    assert broken([pod("worker", restarts, waiting)]) is None


@pytest.mark.parametrize(
    ("restarts", "waiting"), [(0, "ContainerCreating"), (0, "ErrImagePull"), (1, ""), (0, "CreateContainerConfigError")]
)
def test_a_scheduler_that_still_may_is_waited_for(restarts, waiting):
    assert broken([pod("scheduler", restarts, waiting)]) is None
