"""Says from a scheduler's pod why a cluster failed or does not start, as a sentence for its person. Pure.

Used by the controller. Pods are dicts, as Kubernetes' API tells them
(https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/).
"""

from __future__ import annotations

from typing import Any

CONTAINER = "dask-scheduler"
ENDED_PHASES = frozenset({"Succeeded", "Failed"})

_GONE = "The scheduler of this Dask cluster is gone: Kubernetes took its pod away."
_POD_REASONS = {
    "DeadlineExceeded": "This Dask cluster reached the greatest age of its session.",
    "Evicted": "Kubernetes evicted the scheduler of this Dask cluster, because its node ran short of something.",
    "OOMKilled": "The scheduler of this Dask cluster took more memory than it may have.",
}
_IDLE = "The scheduler of this Dask cluster ended by itself, as it does after a long time without work."
_BROKEN = "the environment may lack a working dask, distributed or dask-gateway."
_WAITING = {
    "CreateContainerConfigError": "a Secret or setting of its pod is missing.",
    "ErrImagePull": "the image of the environment could not be fetched.",
    "ImagePullBackOff": "the image of the environment could not be fetched.",
    "InvalidImageName": "the image of the environment could not be fetched.",
}


def _state(pod: dict[str, Any], kind: str) -> dict[str, Any] | None:
    for status in pod.get("status", {}).get("containerStatuses") or ():
        if status.get("name") == CONTAINER:
            state: dict[str, Any] | None = (status.get("state") or {}).get(kind)
            return state
    return None


def why_ended(pod: dict[str, Any] | None) -> str | None:
    """Return why the scheduler with `pod` is no more, or None where it may still become or be one.

    dask-gateway looks at the container alone, and never notices the end of a pod that has none: one that was evicted
    before it started, or whose node is gone.
    """
    if pod is None:
        return _GONE
    terminated = _state(pod, "terminated")
    status = pod.get("status", {})
    if terminated is None and status.get("phase") not in ENDED_PHASES:
        return None
    for reason in (status.get("reason"), (terminated or {}).get("reason")):
        if reason in _POD_REASONS:
            return _POD_REASONS[reason]
    if terminated is None:
        return _GONE
    if terminated.get("exitCode") == 0:
        return _IDLE
    return f"The scheduler of this Dask cluster ended with the code {terminated.get('exitCode')}: {_BROKEN}"


def why_not_started(pod: dict[str, Any] | None, seconds: float) -> str:
    """Return why the scheduler with `pod` does not run after `seconds`."""
    said = f"This Dask cluster did not start within {seconds:.0f} seconds: "
    if pod is None:
        return said + "Kubernetes did not make its scheduler."
    if waiting := _state(pod, "waiting"):
        return said + _WAITING.get(str(waiting.get("reason")), "its scheduler's container did not start.")
    if _state(pod, "running") is not None:
        return said + f"its scheduler runs but does not answer; {_BROKEN}"
    conditions = pod.get("status", {}).get("conditions") or ()
    if any(each.get("type") == "PodScheduled" and each.get("status") != "True" for each in conditions):
        return said + "no node has room for its scheduler."
    return said + "its scheduler's container did not start."
