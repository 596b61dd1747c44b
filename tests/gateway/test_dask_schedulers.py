"""Why a scheduler ended or does not start, from its pod's status."""

from __future__ import annotations

from typing import Any

import pytest

from pangeo_binder.gateway.kube.schedulers import why_ended, why_not_started


def pod(phase: str, state: dict[str, Any] | None = None, **status: Any) -> dict[str, Any]:
    statuses = [{"name": "dask-scheduler", "state": state}] if state else []
    return {"status": {"phase": phase, "containerStatuses": statuses, **status}}


@pytest.mark.parametrize(
    "alive",
    [
        pod("Pending"),
        pod("Pending", {"waiting": {"reason": "ImagePullBackOff"}}),
        pod("Running", {"running": {}}),
        pod("Unknown"),
        {},
    ],
)
def test_one_that_may_still_run_has_not_ended(alive: dict[str, Any]) -> None:
    assert why_ended(alive) is None


@pytest.mark.parametrize(
    ("ended", "said"),
    [
        (None, "is gone"),
        (pod("Failed"), "is gone"),
        (pod("Failed", reason="Evicted"), "evicted"),
        (pod("Failed", reason="DeadlineExceeded"), "maximum age"),
        (pod("Failed", {"terminated": {"exitCode": 137}}, reason="DeadlineExceeded"), "maximum age"),
        (pod("Failed", {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}), "more memory"),
        (pod("Succeeded", {"terminated": {"exitCode": 0, "reason": "Completed"}}), "long time without work"),
        (
            pod("Failed", {"terminated": {"exitCode": 1, "reason": "Error"}}),
            "with exit code 1: the environment may lack",
        ),
        (pod("Running", {"terminated": {"exitCode": 2}}), "with exit code 2"),
    ],
)
def test_one_that_ended_has_a_reason(ended: dict[str, Any] | None, said: str) -> None:
    assert said in str(why_ended(ended))


@pytest.mark.parametrize(
    ("late", "said"),
    [
        (None, "did not make its scheduler"),
        (pod("Pending", conditions=[{"type": "PodScheduled", "status": "False"}]), "no node has room"),
        (pod("Pending", conditions=[{"type": "PodScheduled", "status": "True"}]), "did not start."),
        (pod("Pending", {"waiting": {"reason": "ErrImagePull"}}), "image of the environment could not be pulled"),
        (pod("Pending", {"waiting": {"reason": "CreateContainerConfigError"}}), "a Secret or setting"),
        (pod("Pending", {"waiting": {"reason": "ContainerCreating"}}), "did not start."),
        (pod("Running", {"running": {}}), "runs but does not answer"),
    ],
)
def test_one_that_does_not_start_has_a_reason(late: dict[str, Any] | None, said: str) -> None:
    text = why_not_started(late, 180)
    assert text.startswith("This Dask cluster did not start within 180 seconds: ") and said in text
