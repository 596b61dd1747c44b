"""What the Kubernetes objects of a launch's clusters look like beyond dask-gateway's own; pure.

Everything here ends up in the cluster's record (DaskCluster), which says for as long as the cluster lives how its pods
are made. It holds no secret: storage variables come to the pods from the launch's Secret.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ... import names
from ...kube.pods import TierPods, restricted_container, restricted_pod
from ...model import Launch

COMPONENT_LABEL = "app.kubernetes.io/component"
SERVER_ANNOTATION = f"{names.LABEL}/server"
_TERMINATION_SECONDS = 10
"""How long pods get to end by themselves: they have nothing to save, and their quota is wanted by the next ones."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a deployment puts the objects of its launches."""

    prefix: str = "launch"
    """Of the launches' own namespaces."""
    shared: str = ""
    """The one namespace of all launches; empty where each has its own."""
    tiers: Mapping[str, TierPods] = field(default_factory=dict)
    """What pods of a tier run on; a tier without an entry has no placement of its own."""
    pull_login: bool = False
    """Whether each launch has a Secret with which its image is pulled."""

    def namespace(self, launch: Launch) -> str:
        """Return the namespace of the launch's objects."""
        return self.shared or names.launch_namespace(self.prefix, launch.id)

    def secret(self, kind: str, launch: Launch) -> str:
        """Return the name of a Secret that the hub made for the launch: `storage` or `pull`."""
        return f"{kind}-{launch.id}" if self.shared else kind


def launch_labels(launch: Launch) -> dict[str, str]:
    """Return the labels of everything that belongs to `launch`."""
    return {names.LAUNCH_LABEL: launch.id, names.TIER_LABEL: launch.grant.tier, **names.MANAGED_LABELS}


def cluster_config(launch: Launch, ends_at: float, placement: Placement) -> dict[str, Any]:
    """Return the cluster configuration of `launch` beyond its limits: image, namespace, labels, how pods are held."""
    tier = placement.tiers.get(launch.grant.tier, TierPods())
    pod = {
        **restricted_pod(),
        **tier.spec(),
        "serviceAccountName": "default",
        "terminationGracePeriodSeconds": _TERMINATION_SECONDS,
    }
    # a launch with storage must not compute without it; one without has no such Secret
    secret = {"name": placement.secret("storage", launch), "optional": launch.grant.storage is None}
    container = {**restricted_container(), "envFrom": [{"secretRef": secret}]}
    config: dict[str, Any] = {
        "image": launch.image,
        "namespace": placement.namespace(launch),
        "launch_labels": launch_labels(launch),
        "ends_at": ends_at,
    }
    if placement.pull_login:
        config["image_pull_secrets"] = [{"name": placement.secret("pull", launch)}]
    for kind in ("scheduler", "worker"):
        config[f"{kind}_extra_pod_config"] = pod
        config[f"{kind}_extra_container_config"] = container
        config[f"{kind}_extra_pod_annotations"] = {SERVER_ANNOTATION: f"{launch.user}/{launch.server}"}
    return config
