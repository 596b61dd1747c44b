"""Reads a pod's status: phase, containers, why it cannot start or ended. Pure; the sentences are its users'.

Pods are plain JSON, as the API server sends them. Facts:
https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/; the reasons are the kubelet's
(k8s.io/kubernetes/pkg/kubelet/images and pkg/kubelet/kuberuntime).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

Json = Mapping[str, Any]

IMAGE_FAILURES: Final = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"})
"""Reasons of a waiting container whose image cannot be pulled."""
REPEATED_IMAGE_FAILURES: Final = IMAGE_FAILURES - {"ErrImagePull"}
"""Those that stay: after the first ErrImagePull the node tries again by itself, after the second it backs off."""
CONTAINER_FAILURES: Final = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})
"""Reasons of a waiting container that cannot be created."""
ENDED_PHASES: Final = frozenset({"Succeeded", "Failed"})
OUT_OF_MEMORY: Final = "OOMKilled"
"""The reason of a container, or of a pod, that the kernel killed for its memory."""
EVICTED: Final = "Evicted"
"""The reason of a pod that the kubelet ended, because its node or its own disk limit was exhausted."""


@dataclass(frozen=True, slots=True)
class ContainerState:
    """The state of one container; nothing is set before the kubelet reports one."""

    waiting: bool = False
    running: bool = False
    terminated: bool = False
    reason: str = ""
    """Of waiting or ending."""
    exit_code: int | None = None
    message: str = ""
    """What the container wrote as its termination message."""
    restarts: int = 0

    @property
    def is_known(self) -> bool:
        """Whether the kubelet has reported a state."""
        return self.waiting or self.running or self.terminated

    @property
    def has_begun(self) -> bool:
        """Whether the container runs or ran."""
        return self.running or self.terminated


def container_state(pod: Json | None, name: str = "") -> ContainerState:
    """Return the state of the pod's container `name`, an init container too; without a name, of its first container."""
    status = pod_status(pod)
    listed = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    if not name:
        listed = list(status.get("containerStatuses") or ())
    for each in listed:
        if not name or each.get("name") == name:
            return _state(each)
    return ContainerState()


def _state(status: Json) -> ContainerState:
    states = status.get("state") or {}
    kind = next((kind for kind in ("terminated", "running", "waiting") if states.get(kind) is not None), "")
    state = states.get(kind) or {}
    return ContainerState(
        waiting=kind == "waiting",
        running=kind == "running",
        terminated=kind == "terminated",
        reason=str(state.get("reason") or ""),
        exit_code=state.get("exitCode"),
        message=str(state.get("message") or ""),
        restarts=status.get("restartCount") or 0,
    )


def pod_status(pod: Json | None) -> Json:
    """Return the pod's status; empty without a pod."""
    return (pod or {}).get("status") or {}


def phase(pod: Json | None) -> str:
    """Return the pod's phase; empty without a pod."""
    return str(pod_status(pod).get("phase") or "")


def pod_reason(pod: Json | None) -> str:
    """Return why the pod as a whole is in its phase (`Evicted`, `DeadlineExceeded` …), or nothing."""
    return str(pod_status(pod).get("reason") or "")


def has_ended(pod: Json | None) -> bool:
    """Whether all containers of the pod have ended for good."""
    return phase(pod) in ENDED_PHASES


def is_unschedulable(pod: Json | None) -> bool:
    """Whether the scheduler has found no node for the pod so far."""
    conditions = pod_status(pod).get("conditions") or ()
    return any(each.get("type") == "PodScheduled" and each.get("status") == "False" for each in conditions)
