"""Reads from a cluster's Deployments, pods and record whether its scheduler is ready, or why it never will be; pure.

A DaskCluster's own status is no help: it says `Running` when the scheduler's Service exists, and sometimes never does.
What Kubernetes says in full goes to the log alone, since it names limits that are not the launch's. Quota refusals have
no machine-readable form (https://kubernetes.io/docs/concepts/policy/resource-quotas/).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...kube.pod_status import NO_IMAGE, is_not_yet

if TYPE_CHECKING:
    from kubernetes_asyncio.client import V1ContainerStatus, V1Deployment, V1Pod

COMPONENT_LABEL = "dask.org/component"
_QUOTA = re.compile(r"exceeded quota: [^,]+, requested: (?P<requested>.*?), used: ")
_NOTES = "kopf.zalando.org/"
_WORDS = {"cpu": "cores", "memory": "memory", "pods": "pods"}
_ENDS_BY_ITSELF = 2
"""Restarts after which a scheduler is not waited for."""
_TELL = "Ask whoever runs this binder: the tier's limits leave no room for it."
_LACKS = "The environment may lack a working dask and distributed; 2023.4 and later work here."


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a cluster cannot run."""

    message: str
    """For the person."""
    hint: str
    detail: str
    """What Kubernetes said, for the log."""


def has_pod(deployments: Iterable[V1Deployment]) -> bool:
    """Return whether the scheduler among a cluster's Deployments has a pod, ready or not."""
    return any(_component(each) == "scheduler" and each.status.replicas for each in deployments)


def is_ready(deployments: Iterable[V1Deployment]) -> bool:
    """Return whether the scheduler among a cluster's Deployments can be spoken to."""
    return any(_component(each) == "scheduler" and each.status.ready_replicas for each in deployments)


def refused(deployments: Iterable[V1Deployment]) -> Trouble | None:
    """Return why a pod of one of a cluster's Deployments may not be made, or None where all may; the scheduler's first.

    Without a scheduler, workers are the smaller trouble.
    """
    for deployment in sorted(deployments, key=_component):
        for condition in deployment.status.conditions or ():
            failed = condition.type == "ReplicaFailure" and condition.status == "True"
            if failed and not is_not_yet(condition.message or ""):
                return refusal(f"the Dask cluster's {_component(deployment)}", condition.message or "")
    return None


def refused_to_operator(cluster: Mapping[str, Any]) -> Trouble | None:
    """Return why the operator may not make what a DaskCluster needs, or None where it may.

    Its framework notes in annotations what its last try met (https://docs.kopf.dev/en/stable/continuity/).
    """
    for name, note in (cluster["metadata"].get("annotations") or {}).items():
        if name.startswith(_NOTES) and _QUOTA.search(note):
            return refusal("the Dask cluster", note)
    return None


def broken(pods: Iterable[V1Pod]) -> Trouble | None:
    """Return why a scheduler among a cluster's pods ends again and again or cannot be fetched, or None."""
    for pod in pods:
        if (pod.metadata.labels or {}).get(COMPONENT_LABEL) == "scheduler":
            for status in pod.status.container_statuses or ():
                if trouble := _broken(status):
                    return trouble
    return None


def _broken(status: V1ContainerStatus) -> Trouble | None:
    waiting = status.state.waiting.reason if status.state and status.state.waiting else ""
    if waiting in NO_IMAGE:
        return Trouble("The image of the Dask cluster could not be fetched.", "Try again in a minute.", waiting)
    if status.restart_count >= _ENDS_BY_ITSELF:
        return Trouble("The Dask cluster's scheduler ends by itself.", _LACKS, f"{status.restart_count} restarts")
    return None


def _component(deployment: V1Deployment) -> str:
    return str((deployment.metadata.labels or {}).get(COMPONENT_LABEL, ""))


def refusal(what: str, message: str) -> Trouble:
    """Return what a `message` of Kubernetes' admission means for `what` it refused."""
    found = _QUOTA.search(message)
    if is_not_yet(message):
        return Trouble("Kubernetes does not count this launch's quota yet.", "Try again in a minute.", message)
    if found is None:
        return Trouble(f"Kubernetes' rules here do not allow {what}.", "Ask whoever runs this binder.", message)
    resources = (each.split("=")[0] for each in found["requested"].split(","))
    short = dict.fromkeys(_WORDS.get(each.rsplit(".", 1)[-1], each) for each in resources)
    used_up = f"the quota of {' and '.join(short)} is used up"
    return Trouble(f"Kubernetes refused {what}, because {used_up}.", _TELL, message)
