"""What Kubernetes says of a server's pod becomes sentences that tell nothing of the cluster's insides."""

from __future__ import annotations

from typing import Any

import pytest

from pangeo_binder.errors import QuotaExceeded, SpawnFailed
from pangeo_binder.hub.kube.pod_status import news, refused, too_slow, trouble

UNSCHEDULED = {"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False"}]}


def pod(phase: str, reason: str = "", **state: Any) -> dict[str, Any]:
    return {"status": {"phase": phase, "reason": reason, "containerStatuses": [{"state": state}]}}


def test_an_event_is_a_sentence_of_ours_or_nothing() -> None:
    told = {"reason": "FailedScheduling", "message": "0/3 nodes are available: node-of-somebody"}
    assert news(told) == "Waiting for a node with room for this session"
    assert news({"reason": "SomethingNew", "message": "secret"}) == "" == news({})


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        (pod("Pending", waiting={"reason": "ImagePullBackOff"}), "could not be fetched"),
        (pod("Pending", waiting={"reason": "CreateContainerError"}), "cannot be started"),
        (pod("Failed", terminated={"reason": "OOMKilled"}), "more memory"),
        (pod("Failed", "Evicted"), "had to end it"),
        ({"status": {"phase": "Failed"}}, "ended while it was starting"),
        (pod("Succeeded", terminated={"exitCode": 0}), "ended while it was starting"),
    ],
)
def test_a_pod_that_never_runs_is_known(found: dict[str, Any], sentence: str) -> None:
    failed = trouble(found)
    assert failed is not None and sentence in failed.message and failed.hint


@pytest.mark.parametrize(
    "found",
    [
        None,
        {},
        {"status": UNSCHEDULED},
        pod("Pending", waiting={"reason": "ContainerCreating"}),
        pod("Pending", waiting={"reason": "ErrImagePull"}),
        pod("Running", running={}),
    ],
)
def test_a_pod_that_still_may_run_is_waited_for(found: dict[str, Any] | None) -> None:
    assert trouble(found) is None


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        ({"status": UNSCHEDULED}, "No node had room for this session within 60 s."),
        (pod("Pending", waiting={"reason": "ContainerCreating"}), "image was not there within 60 s."),
        (pod("Running", running={}), "did not answer within 60 s."),
        (None, "did not answer within 60 s."),
    ],
)
def test_what_took_too_long_is_told(found: dict[str, Any] | None, sentence: str) -> None:
    assert sentence in too_slow(found, 60).message


def test_a_refusal_tells_of_the_quota_and_not_of_its_numbers() -> None:
    told = refused(403, "exceeded quota: launch, requested: pods=1, used: pods=1, limited: pods=1")
    assert isinstance(told, QuotaExceeded) and "pods" not in str(told)
    assert isinstance(refused(403, "violates PodSecurity"), SpawnFailed)
    assert isinstance(refused(500, "exceeded quota"), SpawnFailed)
