"""Sentences about a scheduler's pod: why a cluster failed or does not start. Pure; used by the controller.

Pods are plain JSON, as the API server sends them; what a status means is `kube.pod_status`'s.
"""

from __future__ import annotations

from ...kube import pod_status
from ...kube.pod_status import Json, container_state

CONTAINER = "dask-scheduler"

_GONE = "The scheduler of this Dask cluster is gone: Kubernetes deleted its pod."
_POD_REASONS = {
    "DeadlineExceeded": "This Dask cluster reached the maximum age of its session.",
    pod_status.EVICTED: "Kubernetes evicted the scheduler of this Dask cluster: its node ran out of resources.",
    pod_status.OUT_OF_MEMORY: "The scheduler of this Dask cluster used more memory than it may.",
}
_IDLE = "The scheduler of this Dask cluster ended by itself, as it does after a long time without work."
_BROKEN = "the environment may lack a working dask, distributed or dask-gateway."
_WAITING = {
    **dict.fromkeys(pod_status.IMAGE_FAILURES, "the image of the environment could not be pulled."),
    "CreateContainerConfigError": "a Secret or setting of its pod is missing.",
}


def why_ended(pod: Json | None) -> str | None:
    """Return why the scheduler with `pod` has ended, or None if it may still start or run.

    dask-gateway reads the container only, and never notices the end of a pod without one: a pod that was evicted before
    it started, or whose node is gone.
    """
    if pod is None:
        return _GONE
    state = container_state(pod, CONTAINER)
    if not state.terminated and not pod_status.has_ended(pod):
        return None
    for reason in (pod_status.pod_reason(pod), state.reason):
        if reason in _POD_REASONS:
            return _POD_REASONS[reason]
    if not state.terminated:
        return _GONE
    if state.exit_code == 0:
        return _IDLE
    return f"The scheduler of this Dask cluster ended with exit code {state.exit_code}: {_BROKEN}"


def why_not_started(pod: Json | None, seconds: float) -> str:
    """Return why the scheduler with `pod` does not run after `seconds`."""
    late = f"This Dask cluster did not start within {seconds:.0f} seconds: "
    if pod is None:
        return late + "Kubernetes did not make its scheduler."
    state = container_state(pod, CONTAINER)
    if state.waiting:
        return late + _WAITING.get(state.reason, "its scheduler's container did not start.")
    if state.running:
        return late + f"its scheduler runs but does not answer; {_BROKEN}"
    if pod_status.is_unschedulable(pod):
        return late + "no node has room for its scheduler."
    return late + "its scheduler's container did not start."
