"""Sentences about a build's Job and pod for the person who waits for it. Pure.

What a status means is `kube.pod_status`'s; that of a Job:
https://kubernetes.io/docs/concepts/workloads/controllers/job/. A container's own message comes from a pod that ran a
stranger's code: it is bounded, and used only as the reason of a failed build.
"""

from __future__ import annotations

from typing import Any, Final

from ...errors import BuildFailed, HostUnavailable, RefNotFound, RepoNotFound, UserError, refusal_from
from ...kube import pod_status
from ...kube.pod_status import Json, container_state
from ..pod_layout import BUILD, CONTAINERS, FETCH, PUSH
from .registry import DIGEST

_MESSAGE_CHARACTERS: Final = 400
_NEVER_STARTS: Final = {
    **dict.fromkeys(pod_status.IMAGE_FAILURES, "The image that builds environments cannot be pulled"),
    "ErrImageNeverPull": "The image that builds environments is missing",
    "InvalidImageName": "The image that builds environments is misnamed",
    "CreateContainerConfigError": "The build's pod is misconfigured",
    "CreateContainerError": "The build's container cannot be created",
    "RunContainerError": "The build's container cannot be started",
}
_TELL_OPERATOR: Final = "Tell the operator of this binder; the repository is not the cause."


def job_ended(job: Any) -> str | None:
    """Return why a Job ended: `Complete`, or the reason of its failure; None while it runs."""
    for condition in (job.status and job.status.conditions) or ():
        if condition.status == "True":
            if condition.type == "Complete":
                return "Complete"
            if condition.type in ("Failed", "FailureTarget"):  # the second comes first, with the same reason
                return str(condition.reason or "Failed")
    return None


def waits_for(pod: Json | None) -> str:
    """Return the line that says what a build is waiting for, or nothing if it runs."""
    if pod is None:
        return "Waiting for the build's pod."
    if pod_status.is_unschedulable(pod):
        return "Waiting for a node with room to build."
    if reason := stuck(pod):
        return f"{reason} on this binder's cluster; trying again."
    begun = container_state(pod, FETCH).has_begun or not container_state(pod, BUILD).waiting
    return "Starting the build." if pod_status.phase(pod) == "Pending" and not begun else ""


def stuck(pod: Json) -> str:
    """Return the beginning of a sentence that says why no container of the pod can start, or nothing."""
    for name in CONTAINERS:
        state = container_state(pod, name)
        if state.waiting and (words := _NEVER_STARTS.get(state.reason)):
            return words
    return ""


def never_started(reason: str) -> BuildFailed:
    """Return the error for a pod that is `stuck`."""
    return BuildFailed(f"{reason} on this binder's cluster.", _TELL_OPERATOR)


def failure(pod: Json | None, memory: str, disk: str) -> UserError:
    """Return why the pod failed; `memory` and `disk` are its limits, in words."""
    if pod is None:
        return BuildFailed("The build was removed while it ran.", "Open the link again.")
    if pod_status.pod_reason(pod) == pod_status.EVICTED:
        return BuildFailed(
            f"The build needed more disk than this binder gives it ({disk}).", "Make the environment smaller."
        )
    for name in CONTAINERS:
        state = container_state(pod, name)
        if state.terminated and state.exit_code:
            if state.reason == pod_status.OUT_OF_MEMORY:
                return BuildFailed(
                    f"The build needed more memory than this binder gives it ({memory}).",
                    "Request fewer or smaller packages.",
                )
            return _reported(state.message) or BuildFailed(
                f"The build ended with exit code {state.exit_code}.", "The log says why."
            )
    return BuildFailed("The build ended before it was done.", "Open the link again.")


def pushed_digest(pod: Json | None) -> str:
    """Return the digest of the image that the pod's `push` reported; empty if it reported none."""
    state = container_state(pod, PUSH)
    return state.message if state.exit_code == 0 and DIGEST.fullmatch(state.message) else ""


def _reported(text: str) -> UserError | None:
    """Return the error that a container reported, if it is one by which a build may fail."""
    error = refusal_from(text)
    if not isinstance(error, BuildFailed | HostUnavailable | RepoNotFound | RefNotFound):
        return None
    shown = ("".join(letter for letter in part if letter.isprintable()) for part in (error.message, error.hint))
    return type(error)(*(part[:_MESSAGE_CHARACTERS] for part in shown))
