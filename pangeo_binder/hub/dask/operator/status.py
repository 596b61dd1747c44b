"""Reads from a cluster's Deployments, pods and DaskCluster whether its scheduler is ready, or why it fails. Pure.

A DaskCluster's own status does not help: it says `Running` when the scheduler's Service exists, and sometimes never
does. The messages of Kubernetes go to the log only, because they name limits that do not belong to the launch. Objects
are plain JSON, as the API server sends them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ....kube.pod_status import REPEATED_IMAGE_FAILURES, container_state
from ....kube.refusals import Refusal, Why, refusal_in

Json = Mapping[str, Any]

COMPONENT_LABEL = "dask.org/component"
_KOPF_ANNOTATIONS = "kopf.zalando.org/"
_RESTARTS = 2
"""After so many restarts a scheduler is not expected to start."""
_NO_ROOM = "Ask the operator of this binder: the tier's limits leave no room for it."
_LACKS = "The environment may lack a working dask and distributed; 2023.4 and later work here."


@dataclass(frozen=True, slots=True)
class ClusterFailure:
    """Why a cluster cannot run."""

    message: str
    """For the person."""
    hint: str
    detail: str
    """For the log."""


def has_pod(deployments: Iterable[Json]) -> bool:
    """Return whether the scheduler among a cluster's Deployments has a pod, ready or not."""
    return _scheduler_has(deployments, "replicas")


def is_ready(deployments: Iterable[Json]) -> bool:
    """Return whether the scheduler among a cluster's Deployments answers."""
    return _scheduler_has(deployments, "readyReplicas")


def _scheduler_has(deployments: Iterable[Json], count: str) -> bool:
    return any(_component(each) == "scheduler" and (each.get("status") or {}).get(count) for each in deployments)


def pod_refusal(deployments: Iterable[Json]) -> ClusterFailure | None:
    """Return why a pod of one of a cluster's Deployments is refused for good, or None; the scheduler's first.

    Without a scheduler, refused workers do not matter.
    """
    for deployment in sorted(deployments, key=_component):
        for condition in (deployment.get("status") or {}).get("conditions") or ():
            if condition.get("type") == "ReplicaFailure" and condition.get("status") == "True":
                message = str(condition.get("message") or "")
                refusal = refusal_in(message) or Refusal(Why.RULES)
                if not refusal.is_temporary:
                    return refusal_failure(f"the Dask cluster's {_component(deployment)}", refusal, message)
    return None


def operator_refusal(cluster: Json) -> ClusterFailure | None:
    """Return why the operator cannot create what a DaskCluster needs for lack of quota, or None.

    Its framework writes the result of its last attempt into annotations (https://docs.kopf.dev/en/stable/continuity/).
    """
    for name, note in (cluster["metadata"].get("annotations") or {}).items():
        if name.startswith(_KOPF_ANNOTATIONS):
            refusal = refusal_in(note)
            if refusal is not None and refusal.why is Why.QUOTA:
                return refusal_failure("the Dask cluster", refusal, note)
    return None


def scheduler_failure(pods: Iterable[Json]) -> ClusterFailure | None:
    """Return why a scheduler among a cluster's pods ends repeatedly or has no image, or None."""
    for pod in pods:
        if _component(pod) == "scheduler":
            state = container_state(pod)
            if state.waiting and state.reason in REPEATED_IMAGE_FAILURES:
                message = "The image of the Dask cluster could not be pulled."
                return ClusterFailure(message, "Try again in a minute.", state.reason)
            if state.restarts >= _RESTARTS:
                message = "The Dask cluster's scheduler ends by itself."
                return ClusterFailure(message, _LACKS, f"{state.restarts} restarts")
    return None


def _component(found: Json) -> str:
    return str((found["metadata"].get("labels") or {}).get(COMPONENT_LABEL, ""))


def refusal_failure(what: str, refusal: Refusal, detail: str) -> ClusterFailure:
    """Return what the API server's refusal of `what` means for the cluster."""
    hint = _NO_ROOM if refusal.why is Why.QUOTA else refusal.hint or "Open the link again."
    return ClusterFailure(refusal.sentence(what), hint, detail)
