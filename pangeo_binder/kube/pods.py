"""What the pods of launches have in common: the nodes of a tier, and how little a pod may do. Pure.

The hub uses it for servers, the gateway for schedulers and workers, and builds for their pods, so that all are bounded
alike. The security settings are those of the Pod Security Standard *restricted*
(https://kubernetes.io/docs/concepts/security/pod-security-standards/).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

USER_ID = 1000
"""The user and group of every launch's processes: those of repo2docker's images."""


@dataclass(frozen=True, slots=True)
class TierPods:
    """The nodes on which the pods of one tier run, and their priority when nodes are full."""

    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[Mapping[str, Any], ...] = ()
    """As in a pod's spec."""
    priority_class: str = ""
    """The name of a PriorityClass; empty for the cluster's default."""

    def spec(self) -> dict[str, Any]:
        """Return this as a part of a pod's spec."""
        spec: dict[str, Any] = {}
        if self.node_selector:
            spec["nodeSelector"] = dict(self.node_selector)
        if self.tolerations:
            spec["tolerations"] = [dict(each) for each in self.tolerations]
        if self.priority_class:
            spec["priorityClassName"] = self.priority_class
        return spec


def restricted_pod() -> dict[str, Any]:
    """Return the part of a pod's spec that makes it *restricted* and gives it no credentials for the API."""
    return {
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER_ID,
            "runAsGroup": USER_ID,
            "fsGroup": USER_ID,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
    }


def restricted_container() -> dict[str, Any]:
    """Return the part of a container's spec that makes its pod *restricted*."""
    return {"securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}}
