"""Test the translation of a build's Kubernetes status into messages for users."""

from __future__ import annotations

from typing import Any

import pytest
from kubernetes_asyncio import client

from pangeo_binder.builders.kube.podstate import failure, job_ended, never_started, stuck, waits_for
from pangeo_binder.errors import BuildFailed, RefNotFound, refusal_text


def read(kind: str, body: dict[str, Any]) -> Any:
    """Return the API response `body` as the client's object of type `kind`."""
    return client.ApiClient.__new__(client.ApiClient)._ApiClient__deserialize(body, kind)


def pod(state: dict[str, Any] | None = None, container: str = "build", **status: Any) -> dict[str, Any]:
    listed = "containerStatuses" if container == "push" else "initContainerStatuses"
    own = {"name": container, "restartCount": 0, "state": state}
    return {"status": {"phase": "Pending", **({listed: [own]} if state else {}), **status}}


def job(**condition: str) -> Any:
    return read("V1Job", {"status": {"conditions": [{"status": "True", **condition}]}})


def ended(**terminated: Any) -> dict[str, Any]:
    return pod({"terminated": {"exitCode": 1, **terminated}}, phase="Failed")


def test_job_ended_returns_the_reason():
    assert job_ended(read("V1Job", {"status": {}})) is None
    assert job_ended(job(type="SuccessCriteriaMet")) is None
    assert job_ended(job(type="Complete")) == "Complete"
    assert job_ended(job(type="FailureTarget", reason="DeadlineExceeded")) == "DeadlineExceeded"
    assert job_ended(job(type="Failed", status="False", reason="x")) is None


def test_messages_while_a_build_waits():
    unscheduled = [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}]
    assert waits_for(None) == "Waiting for the build's pod."
    assert waits_for(pod(conditions=unscheduled)) == "Waiting for a node with room to build."
    assert waits_for(pod({"waiting": {"reason": "PodInitializing"}})) == "Starting the build."
    assert waits_for(pod({"waiting": {"reason": "ImagePullBackOff"}})).startswith("The image that builds environments")
    assert waits_for(pod({"running": {}})) == "" == waits_for(pod())
    fetching = pod({"running": {}}, "fetch")
    fetching["status"]["initContainerStatuses"].append({"name": "build", "state": {"waiting": {}}})
    assert waits_for(fetching) == ""


@pytest.mark.parametrize("reason", ["ErrImagePull", "InvalidImageName", "CreateContainerConfigError"])
@pytest.mark.parametrize("container", ["fetch", "build", "push"])
def test_message_if_a_container_cannot_start(reason, container):
    problem = stuck(pod({"waiting": {"reason": reason}}, container))
    error = never_started(problem)
    assert error.message.endswith("on this binder's cluster.") and "operator" in error.hint


def test_messages_of_failed_builds():
    assert "removed" in failure(None, "4G", "20G").message
    assert "more memory" in (error := failure(ended(reason="OOMKilled", exitCode=137), "4G", "20G")).message
    assert "4G" in error.message
    assert "more disk than this binder gives it (20G)" in failure(pod(reason="Evicted"), "4G", "20G").message
    assert "exit code 3" in failure(ended(exitCode=3), "4G", "20G").message
    assert "before it was done" in failure(pod(), "4G", "20G").message


def test_the_pods_own_message_is_shown_and_bounded():
    error = failure(ended(message=refusal_text(RefNotFound("No commit.", "Push it."))), "4G", "20G")
    assert isinstance(error, RefNotFound) and (error.message, error.hint) == ("No commit.", "Push it.")
    long = failure(ended(message=refusal_text(BuildFailed("x" * 9000, "\x1b[31m" + "y" * 9000))), "4G", "20G")
    assert len(long.message) == len(long.hint) == 400 and "\x1b" not in long.hint


@pytest.mark.parametrize("text", ["[quota_exceeded] Pay.\nHere.", "[ticket_used] x\ny", "free text", ""])
def test_a_pod_cannot_raise_errors_of_other_parts_of_the_binder(text):
    assert failure(ended(message=text), "4G", "20G").message == "The build ended with exit code 1."
