"""The cluster configuration of a launch in addition to dask-gateway's own. Pure.

All of it becomes part of the cluster's record (DaskCluster), by which the cluster's pods are made for as long as it
lives. It contains no secret: pods read storage variables from the launch's Secret.
"""

from __future__ import annotations

from typing import Any

from ...kube.labels import launch_labels, server_annotation
from ...kube.placement import Placement
from ...kube.pods import restricted_container, restricted_pod
from ...model import Launch

_TERMINATION_SECONDS = 10
"""How long pods may take to end: they have nothing to save, and the next pods need their quota."""


def cluster_config(launch: Launch, ends_at: float, placement: Placement, *, pull_login: bool) -> dict[str, Any]:
    """Return the cluster configuration of `launch` other than its limits: image, namespace, labels, pod security.

    `ends_at` is in seconds since the epoch. With `pull_login` each launch has a Secret with which its image is pulled.
    """
    pod = {
        **restricted_pod(),
        **placement.pods(launch).spec(),
        "serviceAccountName": "default",
        "terminationGracePeriodSeconds": _TERMINATION_SECONDS,
    }
    # a launch with storage must not compute without it; a launch without storage has no such Secret
    secret = {"name": placement.secret("storage", launch), "optional": launch.grant.storage is None}
    container = {**restricted_container(), "envFrom": [{"secretRef": secret}]}
    config: dict[str, Any] = {
        "image": launch.image,
        "namespace": placement.namespace(launch),
        "launch_labels": launch_labels(launch),
        "ends_at": ends_at,
    }
    if pull_login:
        config["image_pull_secrets"] = [{"name": placement.secret("pull", launch)}]
    for kind in ("scheduler", "worker"):
        config[f"{kind}_extra_pod_config"] = pod
        config[f"{kind}_extra_container_config"] = container
        config[f"{kind}_extra_pod_annotations"] = server_annotation(launch)
    return config
