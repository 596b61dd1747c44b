"""Kubernetes' status of a server's pod becomes sentences that show nothing internal of the cluster."""

from __future__ import annotations

from typing import Any

import pytest

from pangeo_binder.errors import QuotaExceeded, SpawnFailed
from pangeo_binder.hub.kube.pod_status import event_message, refusal_failure, start_failure, timeout_failure
from pangeo_binder.kube.refusals import Refusal, Why

UNSCHEDULED = {"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False"}]}


def pod(phase: str, reason: str = "", **state: Any) -> dict[str, Any]:
    return {"status": {"phase": phase, "reason": reason, "containerStatuses": [{"state": state}]}}


def test_an_event_is_a_sentence_of_ours_or_nothing() -> None:
    event = {"reason": "FailedScheduling", "message": "0/3 nodes are available: node-of-somebody"}
    assert event_message(event) == "Waiting for a node with room for this session"
    assert event_message({"reason": "SomethingNew", "message": "secret"}) == "" == event_message({})


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        (pod("Pending", waiting={"reason": "ImagePullBackOff"}), "could not be pulled"),
        (pod("Pending", waiting={"reason": "CreateContainerError"}), "cannot be started"),
        (pod("Failed", terminated={"reason": "OOMKilled"}), "more memory"),
        (pod("Failed", "Evicted"), "had to end it"),
        ({"status": {"phase": "Failed"}}, "ended while it was starting"),
        (pod("Succeeded", terminated={"exitCode": 0}), "ended while it was starting"),
    ],
)
def test_a_pod_that_never_runs_is_known(found: dict[str, Any], sentence: str) -> None:
    failed = start_failure(found)
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
    assert start_failure(found) is None


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        ({"status": UNSCHEDULED}, "No node had room for this session within 60 s."),
        (pod("Pending", waiting={"reason": "ContainerCreating"}), "image was not on the node within 60 s."),
        (pod("Running", running={}), "did not answer within 60 s."),
        (None, "did not answer within 60 s."),
    ],
)
def test_a_slow_start_has_a_reason(found: dict[str, Any] | None, sentence: str) -> None:
    assert sentence in timeout_failure(found, 60).message


def test_a_refusal_shows_the_quota_but_not_its_numbers() -> None:
    failure = refusal_failure(Refusal(Why.QUOTA, ("pods",)))
    assert isinstance(failure, QuotaExceeded) and "pods" not in str(failure)


@pytest.mark.parametrize("why", [Why.RULES, Why.NO_SERVICE_ACCOUNT, Why.UNAVAILABLE])
def test_any_other_refusal_is_a_failed_start(why: Why) -> None:
    failure = refusal_failure(Refusal(why))
    assert isinstance(failure, SpawnFailed) and "the session's server" in failure.message and failure.hint
