"""What Kubernetes says of a server's pod, in sentences for the person who waits for it. Pure.

What Kubernetes says in full names nodes, registries and limits that are not the launch's, so only what is known here is
passed on. Facts: https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/ and the reasons of events in the
scheduler, the kubelet and the cluster autoscaler. Pods and events are as KubeSpawner's watch has them: plain JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...errors import QuotaExceeded, SpawnFailed

Json = Mapping[str, Any]

_NEWS = {
    "FailedScheduling": "Waiting for a node with room for this session",
    "TriggeredScaleUp": "A new node is being started for this session",
    "Scheduled": "A node has room for this session",
    "Pulling": "Fetching the environment's image",
    "Pulled": "The environment's image is there",
    "Started": "The session's server is starting",
    "Evicted": "The node ran out of something, and this session was ended",
    "Preempted": "This session had to give way to a more important one",
}
NO_IMAGE = frozenset({"ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"})
"""Of these the first follows a second failure; after the first one the node tries again by itself."""
_NO_CONTAINER = frozenset({"CreateContainerError", "RunContainerError", "CreateContainerConfigError"})
_NOT_YET = (
    "status unknown for quota",
    "error looking up service account",
    "Operation cannot be fulfilled on resourcequotas",
)
"""Why a new namespace refuses things for a moment: its quota is not counted yet, it has no account yet, or two things
were counted at once (https://github.com/kubernetes/kubernetes/issues/67761)."""
_LATER = "Try again later."
_TELL = "Tell the operator of this binder; nothing is wrong with the repository."
_OUT_OF_MEMORY = "OOMKilled"


def is_not_yet(message: str) -> bool:
    """Return whether a refusal is only of a namespace that is too new, so that it is to be tried again."""
    return any(text in message for text in _NOT_YET)


def news(event: Json) -> str:
    """Return what an event on the pod means for the person, or nothing."""
    return _NEWS.get(str(event.get("reason")), "")


def trouble(pod: Json | None) -> SpawnFailed | None:
    """Return why a starting server will never run, or None where it still may."""
    if pod is None:
        return None
    status = pod.get("status") or {}
    if status.get("phase") in ("Failed", "Succeeded"):
        return _ended(status)
    waiting = _state(status).get("waiting") or {}
    if waiting.get("reason") in NO_IMAGE:
        return SpawnFailed("The environment's image could not be fetched.", f"{_LATER} If it happens again: {_TELL}")
    if waiting.get("reason") in _NO_CONTAINER:
        return SpawnFailed("The session's container cannot be started.", _TELL)
    return None


def _ended(status: Json) -> SpawnFailed:
    if _state(status).get("terminated", {}).get("reason") == _OUT_OF_MEMORY:
        return SpawnFailed("The session's server needs more memory than its tier has.", "Make its start smaller.")
    if status.get("reason") in ("Evicted", "Preempting", "NodeLost", "Shutdown", "Terminated"):
        return SpawnFailed("The node of this session's server had to end it.", _LATER)
    return SpawnFailed(
        "The session's server ended while it was starting.",
        "The environment may lack a working jupyterlab, or its start script fails.",
    )


def too_slow(pod: Json | None, seconds: int) -> SpawnFailed:
    """Return why a server that was given `seconds` to start has not."""
    status = (pod or {}).get("status") or {}
    if any(each["type"] == "PodScheduled" and each["status"] == "False" for each in status.get("conditions") or ()):
        return SpawnFailed(f"No node had room for this session within {seconds} s.", _LATER)
    if "waiting" in _state(status):
        return SpawnFailed(f"The environment's image was not there within {seconds} s.", _LATER)
    return SpawnFailed(
        f"The session's server did not answer within {seconds} s.", f"{_LATER} Its start script may take too long."
    )


def refused(status: int | None, body: str) -> SpawnFailed | QuotaExceeded:
    """Translate an API-server rejection of the pod; `status` is the HTTP status."""
    if status == 403 and "exceeded quota" in body:
        return QuotaExceeded("This launch's quota has no room for its server.", "Tell the operator of this binder.")
    return SpawnFailed("Kubernetes refused the session's server.", f"{_LATER} If it happens again: {_TELL}")


def _state(status: Json) -> Json:
    """Return the state of the pod's one container, with one of `waiting`, `running`, `terminated`; empty before."""
    states = [each.get("state") or {} for each in status.get("containerStatuses") or ()]
    return states[0] if states else {}
