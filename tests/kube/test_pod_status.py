"""A pod's status as the kubelet and the scheduler write it."""

from __future__ import annotations

from typing import Any

import pytest

from pangeo_binder.kube.pod_status import (
    ContainerState,
    container_state,
    has_ended,
    is_unschedulable,
    phase,
    pod_reason,
)


def pod(name: str = "c", state: dict[str, Any] | None = None, kind: str = "containerStatuses", **status: Any) -> Any:
    return {"status": {kind: [{"name": name, "state": state, "restartCount": 2}], **status}}


@pytest.mark.parametrize("found", [None, {}, {"status": None}, {"status": {"containerStatuses": None}}, pod()])
def test_before_the_kubelet_reports_nothing_is_known(found: Any) -> None:
    state = container_state(found)
    assert not state.is_known and not state.has_begun and state.reason == ""
    assert not has_ended(found) and not is_unschedulable(found) and phase(found) == pod_reason(found) == ""


def test_a_containers_state_has_its_reason() -> None:
    assert container_state(pod(state={"waiting": {"reason": "ErrImagePull"}})) == ContainerState(
        waiting=True, reason="ErrImagePull", restarts=2
    )
    assert container_state(pod(state={"running": {}})) == ContainerState(running=True, restarts=2)
    ended = {"terminated": {"exitCode": 137, "reason": "OOMKilled", "message": "m"}}
    assert container_state(pod(state=ended)) == ContainerState(
        terminated=True, reason="OOMKilled", exit_code=137, message="m", restarts=2
    )


def test_containers_are_found_by_name_and_init_containers_too() -> None:
    found = pod("build", {"running": {}}, "initContainerStatuses")
    assert container_state(found, "build").running
    assert not container_state(found, "push").is_known
    assert not container_state(found).is_known, "the first container is not an init container"


def test_the_pod_as_a_whole() -> None:
    assert has_ended(pod(phase="Failed")) and has_ended(pod(phase="Succeeded")) and not has_ended(pod(phase="Running"))
    assert pod_reason(pod(phase="Failed", reason="Evicted")) == "Evicted"
    assert is_unschedulable(pod(conditions=[{"type": "PodScheduled", "status": "False"}]))
    assert not is_unschedulable(pod(conditions=[{"type": "PodScheduled", "status": "True"}]))
    assert not is_unschedulable(pod(conditions=[{"type": "Ready", "status": "False"}]))
