"""Where a deployment puts the objects of its launches: namespace, names, and the nodes of their pods. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from .. import names
from ..model import Launch
from .pods import TierPods

SECRETS: Final = ("session", "storage", "pull")
"""The kinds of Secrets of a launch."""


def shared_name(kind: str, launch_id: str) -> str:
    """Return the name of a launch's object in a namespace that several launches share."""
    return f"{kind}-{launch_id}"


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a deployment puts the objects of its launches; hub and gateway have to be given the same."""

    prefix: str = "launch"
    """Launches' own namespaces are `<prefix>-<launch id>`."""
    shared: str = ""
    """The one namespace of all launches; empty if each has its own."""
    tiers: Mapping[str, TierPods] = field(default_factory=dict)
    """The nodes and priority of a tier's pods; a tier without an entry has the cluster's defaults."""

    def namespace(self, launch: Launch) -> str:
        """Return the namespace of the launch's objects."""
        return self.shared or names.launch_namespace(self.prefix, launch.id)

    def secret(self, kind: str, launch: Launch) -> str:
        """Return the name of a launch's Secret, one of SECRETS."""
        return shared_name(kind, launch.id) if self.shared else kind

    def pods(self, launch: Launch) -> TierPods:
        """Return the nodes and priority of the launch's pods."""
        return self.tiers.get(launch.grant.tier, TierPods())
