"""Sentences about a server's pod for the person who waits for it. Pure.

Kubernetes' own messages name nodes, registries and limits that do not belong to the launch, so only what is known here
is passed on. The reasons of events are those of the scheduler, the kubelet and the cluster autoscaler. Pods and events
are plain JSON, as KubeSpawner's watch keeps them; what a status means is `kube.pod_status`'s.
"""

from __future__ import annotations

from ...errors import QuotaExceeded, SpawnFailed
from ...kube import pod_status
from ...kube.pod_status import Json, container_state
from ...kube.refusals import Refusal, Why

_EVENTS = {
    "FailedScheduling": "Waiting for a node with room for this session",
    "TriggeredScaleUp": "A new node is being started for this session",
    "Scheduled": "A node has room for this session",
    "Pulling": "Pulling the environment's image",
    "Pulled": "The environment's image is on the node",
    "Started": "The session's server is starting",
    "Evicted": "The node ran out of memory or disk and ended this session",
    "Preempted": "A session with a higher priority took the place of this one",
}
_NODE_ENDED_IT = frozenset({pod_status.EVICTED, "Preempting", "NodeLost", "Shutdown", "Terminated"})
_LATER = "Try again later."
_OPERATOR = "Tell the operator of this binder; the repository is not the cause."


def event_message(event: Json) -> str:
    """Return what an event on the pod means for the person, or nothing."""
    return _EVENTS.get(str(event.get("reason")), "")


def start_failure(pod: Json | None) -> SpawnFailed | None:
    """Return why a starting server will never run, or None if it still may."""
    if pod_status.has_ended(pod):
        return _ended(pod)
    reason = container_state(pod).reason
    if reason in pod_status.REPEATED_IMAGE_FAILURES:
        return SpawnFailed("The environment's image could not be pulled.", f"{_LATER} If it happens again: {_OPERATOR}")
    if reason in pod_status.CONTAINER_FAILURES:
        return SpawnFailed("The session's container cannot be started.", _OPERATOR)
    return None


def _ended(pod: Json | None) -> SpawnFailed:
    if container_state(pod).reason == pod_status.OUT_OF_MEMORY:
        return SpawnFailed("The session's server needs more memory than its tier has.", "Make its start smaller.")
    if pod_status.pod_reason(pod) in _NODE_ENDED_IT:
        return SpawnFailed("The node of this session's server had to end it.", _LATER)
    return SpawnFailed(
        "The session's server ended while it was starting.",
        "The environment may lack a working jupyterlab, or its start script fails.",
    )


def timeout_failure(pod: Json | None, seconds: int) -> SpawnFailed:
    """Return why a server has not started within `seconds`."""
    if pod_status.is_unschedulable(pod):
        return SpawnFailed(f"No node had room for this session within {seconds} s.", _LATER)
    if container_state(pod).waiting:
        return SpawnFailed(f"The environment's image was not on the node within {seconds} s.", _LATER)
    return SpawnFailed(
        f"The session's server did not answer within {seconds} s.", f"{_LATER} Its start script may take too long."
    )


def refusal_failure(refusal: Refusal) -> SpawnFailed | QuotaExceeded:
    """Translate the API server's refusal of the pod."""
    if refusal.why is Why.QUOTA:
        return QuotaExceeded("This launch's quota has no room for its server.", "Tell the operator of this binder.")
    return SpawnFailed(refusal.sentence("the session's server"), f"{_LATER} If it happens again: {_OPERATOR}")
