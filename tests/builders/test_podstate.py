"""The status of a build's Job and pod, in sentences."""

from __future__ import annotations

from typing import Any

import pytest
from kubernetes_asyncio import client

from pangeo_binder.builders.kube.podstate import failure, job_ended, never_started, stuck, waits_for
from pangeo_binder.errors import BuildFailed, RefNotFound, refusal_text


def read(kind: str, body: dict[str, Any]) -> Any:
    """Return what the client makes of the API's answer."""
    return client.ApiClient.__new__(client.ApiClient)._ApiClient__deserialize(body, kind)


def pod(state: dict[str, Any] | None = None, container: str = "build", **status: Any) -> dict[str, Any]:
    listed = "initContainerStatuses" if container == "build" else "containerStatuses"
    own = {"name": container, "restartCount": 0, "state": state}
    return {"status": {"phase": "Pending", **({listed: [own]} if state else {}), **status}}


def job(**condition: str) -> Any:
    return read("V1Job", {"status": {"conditions": [{"status": "True", **condition}]}})


def ended(**terminated: Any) -> dict[str, Any]:
    return pod({"terminated": {"exitCode": 1, **terminated}}, phase="Failed")


def test_a_jobs_end():
    assert job_ended(read("V1Job", {"status": {}})) is None
    assert job_ended(job(type="SuccessCriteriaMet")) is None
    assert job_ended(job(type="Complete")) == "Complete"
    assert job_ended(job(type="FailureTarget", reason="DeadlineExceeded")) == "DeadlineExceeded"
    assert job_ended(job(type="Failed", status="False", reason="x")) is None


def test_what_it_waits_for():
    unscheduled = [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}]
    assert waits_for(None) == "Waiting for the build's pod."
    assert waits_for(pod(conditions=unscheduled)) == "Waiting for a node with room to build."
    assert waits_for(pod({"waiting": {"reason": "PodInitializing"}})) == "Starting the build."
    assert waits_for(pod({"waiting": {"reason": "ImagePullBackOff"}})).startswith("The image that builds environments")
    assert waits_for(pod({"running": {}})) == "" == waits_for(pod())


@pytest.mark.parametrize("reason", ["ErrImagePull", "InvalidImageName", "CreateContainerConfigError"])
@pytest.mark.parametrize("container", ["build", "push"])
def test_what_never_starts(reason, container):
    words = stuck(pod({"waiting": {"reason": reason}}, container))
    error = never_started(words)
    assert error.message.endswith("on this binder's cluster.") and "operator" in error.hint


def test_why_it_failed():
    assert "removed" in failure(None, "4G", "20G").message
    assert "more memory" in (killed := failure(ended(reason="OOMKilled", exitCode=137), "4G", "20G")).message
    assert "4G" in killed.message
    assert "more disk than this binder gives it (20G)" in failure(pod(reason="Evicted"), "4G", "20G").message
    assert "exit code 3" in failure(ended(exitCode=3), "4G", "20G").message
    assert "before it was done" in failure(pod(), "4G", "20G").message


def test_a_pods_own_message_is_shown_and_bounded():
    said = failure(ended(message=refusal_text(RefNotFound("No commit.", "Push it."))), "4G", "20G")
    assert isinstance(said, RefNotFound) and (said.message, said.hint) == ("No commit.", "Push it.")
    long = failure(ended(message=refusal_text(BuildFailed("x" * 9000, "\x1b[31m" + "y" * 9000))), "4G", "20G")
    assert len(long.message) == len(long.hint) == 400 and "\x1b" not in long.hint


@pytest.mark.parametrize("text", ["[quota_exceeded] Pay.\nHere.", "[ticket_used] x\ny", "free text", ""])
def test_a_pod_cannot_pass_for_another_part_of_the_binder(text):
    assert failure(ended(message=text), "4G", "20G").message == "The build ended with exit code 1."
