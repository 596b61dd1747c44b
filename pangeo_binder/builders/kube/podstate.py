"""What the state of a build's Job and pod means, in sentences for the person who waits for it. Pure.

The facts are Kubernetes': https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/ and
https://kubernetes.io/docs/concepts/workloads/controllers/job/. What a container says of itself comes from a pod that
ran a stranger's code: it is cut, and taken for no more than why a build failed.
"""

from __future__ import annotations

from typing import Any, Final

from ...errors import BuildFailed, RefNotFound, RepoNotFound, UserError, refusal_from
from ..pod_layout import BUILD, PUSH

_MESSAGE_CHARACTERS: Final = 400
_NEVER_STARTS: Final = {
    "ErrImagePull": "The image that builds environments cannot be pulled",
    "ImagePullBackOff": "The image that builds environments cannot be pulled",
    "ErrImageNeverPull": "The image that builds environments is not",
    "InvalidImageName": "The image that builds environments is misnamed",
    "CreateContainerConfigError": "The build's pod is misconfigured",
    "CreateContainerError": "The build's container cannot be made",
    "RunContainerError": "The build's container cannot be started",
}
_TELL_OPERATOR: Final = "Tell the binder's operator; nothing is wrong with the repository."


def job_ended(job: Any) -> str | None:
    """Return why a Job ended: `Complete`, or the reason of its failure; None while it runs."""
    for condition in (job.status and job.status.conditions) or ():
        if condition.status == "True":
            if condition.type == "Complete":
                return "Complete"
            if condition.type in ("Failed", "FailureTarget"):  # the second comes first, and names the same reason
                return str(condition.reason or "Failed")
    return None


def container_state(pod: Any, name: str) -> Any:
    """Return the state of the pod's container `name`, with one of `waiting`, `running`, `terminated`; None before."""
    status = pod.status
    listed = [*((status and status.init_container_statuses) or ()), *((status and status.container_statuses) or ())]
    return next((each.state for each in listed if each.name == name), None)


def waits_for(pod: Any | None) -> str:
    """Return the line that says what a build is waiting for, or nothing where it runs."""
    if pod is None:
        return "Waiting for a place to build."
    for condition in (pod.status and pod.status.conditions) or ():
        if condition.type == "PodScheduled" and condition.status == "False":
            return "Waiting for a node with room to build."
    if reason := stuck(pod):
        return f"{reason} on this binder's cluster; trying again."
    if pod.status.phase == "Pending" and container_state(pod, BUILD) is not None:
        state = container_state(pod, BUILD)
        return "" if state.running or state.terminated else "Starting the build."
    return ""


def stuck(pod: Any) -> str:
    """Return the beginning of a sentence that says why no container of the pod can start, or nothing."""
    for name in (BUILD, PUSH):
        state = container_state(pod, name)
        if state and state.waiting and (words := _NEVER_STARTS.get(state.waiting.reason or "")):
            return words
    return ""


def never_started(reason: str) -> BuildFailed:
    """Return the error for a pod that is `stuck`."""
    return BuildFailed(f"{reason} on this binder's cluster.", _TELL_OPERATOR)


def failure(pod: Any | None, memory: str, disk: str) -> UserError:
    """Return why the pod failed; `memory` and `disk` are what it was given, in words."""
    if pod is None:
        return BuildFailed("The build was removed while it ran.", "Open the link again.")
    if pod.status.reason == "Evicted":
        return BuildFailed(
            f"The build needed more disk than this binder gives it ({disk}).", "Make the environment smaller."
        )
    for name in (BUILD, PUSH):
        state = container_state(pod, name)
        ended = state and state.terminated
        if ended and ended.exit_code:
            if ended.reason == "OOMKilled":
                return BuildFailed(
                    f"The build needed more memory than this binder gives it ({memory}).",
                    "Ask for fewer or smaller packages.",
                )
            return _said(ended.message or "") or BuildFailed(
                f"The build ended with exit code {ended.exit_code}.", "The log says why."
            )
    return BuildFailed("The build ended before it was done.", "Open the link again.")


def _said(text: str) -> UserError | None:
    """Return the error a container reported, where it is one of those a build may fail with."""
    error = refusal_from(text)
    if not isinstance(error, BuildFailed | RepoNotFound | RefNotFound):
        return None
    shown = ("".join(letter for letter in part if letter.isprintable()) for part in (error.message, error.hint))
    return type(error)(*(part[:_MESSAGE_CHARACTERS] for part in shown))
