"""A cluster's objects show whether it is ready, refused for good, or refused for a moment."""

from __future__ import annotations

from typing import Any

import pytest

from pangeo_binder.hub.dask.operator.status import (
    has_pod,
    is_ready,
    operator_refusal,
    pod_refusal,
    refusal_failure,
    scheduler_failure,
)
from pangeo_binder.kube.refusals import Refusal, Why, refusal_in

QUOTA = (
    'pods "dask-a-scheduler-1" is forbidden: exceeded quota: launch, requested: limits.cpu=1,limits.memory=1Gi,'
    " used: limits.cpu=2,limits.memory=2Gi, limited: limits.cpu=2,limits.memory=2Gi"
)
NOT_COUNTED = 'pods "dask-a-scheduler-1" is forbidden: status unknown for quota: launch, resources: pods'
NO_ACCOUNT = (
    'pods "dask-a" is forbidden: error looking up service account n/default: serviceaccount "default" not found'
)
RULES = 'pods "dask-a" is forbidden: violates PodSecurity "restricted:latest": allowPrivilegeEscalation != false'


def deployment(component: str, message: str = "", ready: int = 0) -> dict[str, Any]:
    failed = {"type": "ReplicaFailure", "status": "True", "message": message}
    status = {"readyReplicas": ready, "replicas": 1, "conditions": [failed] if message else []}
    return {"metadata": {"labels": {"dask.org/component": component}}, "status": status}


def pod(component: str, restarts: int = 0, waiting: str = "") -> dict[str, Any]:
    state = {"waiting": {"reason": waiting}} if waiting else {}
    each = {"name": component, "restartCount": restarts, "state": state}
    return {"metadata": {"labels": {"dask.org/component": component}}, "status": {"containerStatuses": [each]}}


def test_only_a_scheduler_makes_a_cluster_ready():
    assert is_ready([deployment("worker"), deployment("scheduler", ready=1)])
    assert not is_ready([deployment("worker", ready=1), deployment("scheduler")])
    assert not is_ready([]) and not has_pod([deployment("worker")]) and has_pod([deployment("scheduler")])


def test_a_refusal_is_a_sentence_and_kubernetes_message_is_for_the_log():
    failure = pod_refusal([deployment("worker", QUOTA), deployment("scheduler", QUOTA)])
    used_up = "because the quota of cores and memory is used up."
    assert failure.message == f"Kubernetes refused the Dask cluster's scheduler, {used_up}"
    assert "launch" not in failure.message + failure.hint and failure.detail == QUOTA


@pytest.mark.parametrize("message", [NOT_COUNTED, NO_ACCOUNT])
def test_a_new_namespace_refuses_nothing_for_good(message):
    assert pod_refusal([deployment("scheduler", message)]) is None
    assert pod_refusal([deployment("scheduler")]) is None


def test_a_final_refusal_is_reported_at_once():
    failure = pod_refusal([deployment("scheduler", RULES)])
    assert failure.message == "The rules of this Kubernetes cluster do not allow the Dask cluster's scheduler."
    assert failure.hint and failure.detail == RULES


def test_a_quota_that_was_not_counted_in_time_is_reported_as_such():
    failure = refusal_failure("the Dask cluster", refusal_in(NOT_COUNTED), NOT_COUNTED)
    assert "still preparing this session's namespace" in failure.message and "Try again" in failure.hint


@pytest.mark.parametrize("why", Why)
def test_every_refusal_has_a_hint(why):
    assert refusal_failure("the Dask cluster", Refusal(why), "").hint


def test_the_operators_last_attempt_is_read_from_its_annotations():
    noted = {"kopf.zalando.org/daskcluster_create_components.status.phase": f'{{"message":"{QUOTA[40:]}"}}'}
    assert "quota of cores" in operator_refusal({"metadata": {"annotations": noted}}).message
    assert operator_refusal({"metadata": {"annotations": {"somebody.else/note": QUOTA}}}) is None
    assert operator_refusal({"metadata": {}}) is None


@pytest.mark.parametrize(
    ("restarts", "waiting"), [(2, "CrashLoopBackOff"), (0, "ImagePullBackOff"), (0, "InvalidImageName")]
)
def test_a_scheduler_that_never_will_run_is_not_waited_for(restarts, waiting):
    assert scheduler_failure([pod("scheduler", restarts, waiting)]).hint
    assert scheduler_failure([pod("worker", restarts, waiting)]) is None


@pytest.mark.parametrize(
    ("restarts", "waiting"), [(0, "ContainerCreating"), (0, "ErrImagePull"), (1, ""), (0, "CreateContainerConfigError")]
)
def test_a_scheduler_that_still_may_is_waited_for(restarts, waiting):
    assert scheduler_failure([pod("scheduler", restarts, waiting)]) is None
