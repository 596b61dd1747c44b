"""The Kubernetes Job that builds one environment, as a manifest. Pure.

The pod has two halves, one after the other. `build` (an init container) runs the repository's code and holds no
credentials; it leaves an image in a directory. `push` (the container) runs none of it and alone holds the registry's
password. What `build` may do beyond the Pod Security Standard *restricted* is what a user namespace needs, and said in
`_build_security`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ...kube.pods import TierPods, restricted_container, restricted_pod
from ...model import Repo
from ...names import BUILD_LABEL, LABEL, MANAGED_LABELS
from ..base import BuildLimits
from ..pod_layout import BUILD, BUILD_DIR, ENGINES, IMAGE_DIR, PUSH, SECRET_DIR, SECRET_FILE
from .registry import RegistrySettings

_ANNOTATION_CHARACTERS: Final = 1024
_UNPRINTABLE: Final = re.compile(r"[^\x20-\x7e]")
_GIB: Final = 1 << 30
_STAYS: Final = {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"}  # a node is not emptied during a build
_TMP: Final = "/tmp"  # noqa: S108 - each container's own


@dataclass(frozen=True, slots=True, kw_only=True)
class KubeBuildSettings(BuildLimits):
    """How environments are built on a cluster."""

    concurrent: int = 100
    """How many builds this process follows; how many run is for the namespace's ResourceQuota to say."""
    namespace: str
    """The namespace in which Jobs are made; nothing else should be in it."""
    image: str
    """The image of build pods (`images/builder`)."""
    registry: RegistrySettings
    push_secret: str = ""
    """The name of a Secret in the namespace, of type kubernetes.io/dockerconfigjson; empty for a registry without."""
    engine: str = "buildah"
    """One of ENGINES."""
    cpu_request: float = 0.5
    cpu_limit: float = 2
    memory_request_bytes: int = _GIB
    memory_limit_bytes: int = 4 * _GIB
    disk_bytes: int = 20 * _GIB
    """What the checkout, the layers and the image may take on a node's disk, together."""
    keep_seconds: int = 600
    """How long a Job that ended is kept, for its log."""
    retry_seconds: float = 120
    """How long the Kubernetes API may not answer, and a pod may fail to start, before a build is given up."""
    pods: TierPods = field(default_factory=TierPods)
    """Where build pods run, and how they rank."""
    base_image: str = ""
    """The image below environments that bring no Dockerfile; empty for repo2docker's own."""
    plain_http_registries: tuple[str, ...] = ()
    """Registries (`host[:port]`) from which Dockerfiles may take images without TLS."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """Variables of `build`, such as HTTPS_PROXY; the repository's code can read them."""
    seccomp_profile: str = ""
    """A profile on the nodes that allows user namespaces and mounts within them; empty for none at all."""
    apparmor_profile: str = ""
    """The same for AppArmor."""

    def __post_init__(self) -> None:
        if self.engine not in ENGINES:
            raise ValueError(f"engine is one of {', '.join(ENGINES)}, not {self.engine!r}")


def job_name(build_id: str) -> str:
    """Return the name of a build's Job: the same in every binder, so that there is one."""
    return f"build-{build_id}"


def job_manifest(build_id: str, repo: Repo, settings: KubeBuildSettings) -> dict[str, Any]:
    """Return the Job that builds `repo` and pushes it under the tag `build_id`."""
    labels = {**MANAGED_LABELS, "app.kubernetes.io/component": "build", BUILD_LABEL: build_id}
    notes = {f"{LABEL}/repo": repo.ref.url, f"{LABEL}/ref": repo.ref.ref, f"{LABEL}/commit": repo.revision}
    annotations = {name: _annotation(text) for name, text in notes.items()}
    meta = {"labels": labels, "annotations": annotations}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": job_name(build_id), "namespace": settings.namespace, **meta},
        "spec": {
            "backoffLimit": 0,
            # a node that goes away is not the repository's fault: such a pod is made again, within the deadline
            "podFailurePolicy": {
                "rules": [{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}]
            },
            "activeDeadlineSeconds": int(settings.timeout_seconds),
            "ttlSecondsAfterFinished": settings.keep_seconds,
            "template": {
                "metadata": {**meta, "annotations": {**annotations, **_STAYS}},
                "spec": _pod(build_id, repo, settings),
            },
        },
    }


def _annotation(text: str) -> str:
    return _UNPRINTABLE.sub("?", text)[:_ANNOTATION_CHARACTERS]


def _pod(build_id: str, repo: Repo, settings: KubeBuildSettings) -> dict[str, Any]:
    size = str(settings.disk_bytes)
    # what the repository's code could write to, and what `push` reads, have nothing in common but the image
    names = ("image", "build", "build-tmp", "push-tmp")
    volumes: list[dict[str, Any]] = [{"name": name, "emptyDir": {"sizeLimit": size}} for name in names]
    if settings.push_secret:
        # only the one key: a Secret of another type does not start a build at all
        items = [{"key": ".dockerconfigjson", "path": ".dockerconfigjson"}]
        volumes.append({"name": "push-secret", "secret": {"secretName": settings.push_secret, "items": items}})
    return {
        **restricted_pod(),
        **settings.pods.spec(),
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 5,
        "initContainers": [_build(repo, settings)],
        "containers": [_push(build_id, settings)],
        "volumes": volumes,
    }


def _build(repo: Repo, settings: KubeBuildSettings) -> dict[str, Any]:
    """Return the half that runs the repository's code."""
    wanted = {
        "PANGEO_BINDER_ENGINE": settings.engine,
        "PANGEO_BINDER_BASE_IMAGE": settings.base_image,
        "PANGEO_BINDER_PLAIN_HTTP": " ".join(settings.plain_http_registries),
    }
    return {
        "name": BUILD,
        "image": settings.image,
        # nothing of a link is ever an option: of git, of repo2docker, or of ours
        "args": [BUILD, f"--ref={repo.ref.ref}", "--", repo.ref.url, repo.revision],
        "env": [{"name": name, "value": value} for name, value in {**settings.variables, **wanted}.items() if value],
        "resources": _resources(settings),
        "securityContext": _build_security(settings),
        "volumeMounts": [
            {"name": "image", "mountPath": IMAGE_DIR},
            {"name": "build", "mountPath": BUILD_DIR},
            {"name": "build-tmp", "mountPath": _TMP},
        ],
    }


def _push(build_id: str, settings: KubeBuildSettings) -> dict[str, Any]:
    """Return the half that holds the password."""
    options = ["--plain-http"] if settings.registry.plain_http else []
    mounts: list[dict[str, Any]] = [
        {"name": "image", "mountPath": IMAGE_DIR, "readOnly": True},
        {"name": "push-tmp", "mountPath": _TMP},
    ]
    if settings.push_secret:
        options.append(f"--credentials={SECRET_FILE}")
        mounts.append({"name": "push-secret", "mountPath": SECRET_DIR, "readOnly": True})
    security = {**restricted_container()["securityContext"], "readOnlyRootFilesystem": True}
    return {
        "name": PUSH,
        "image": settings.image,
        "args": [PUSH, *options, "--", settings.registry.push_reference(build_id)],
        "resources": _resources(settings),
        "securityContext": security,
        "volumeMounts": mounts,
    }


def _build_security(settings: KubeBuildSettings) -> dict[str, Any]:
    """Return what a user namespace with more than one user in it needs, and no more.

    `newuidmap` and `newgidmap` map the users (SETUID, SETGID, and a set-uid bit that works); RuntimeDefault's seccomp
    and AppArmor profiles forbid making user namespaces and mounting in them. No privilege on the node is among it.
    """
    return {
        "allowPrivilegeEscalation": True,
        "capabilities": {"drop": ["ALL"], "add": ["SETUID", "SETGID"]},
        "readOnlyRootFilesystem": True,
        "seccompProfile": _profile(settings.seccomp_profile),
        "appArmorProfile": _profile(settings.apparmor_profile),
    }


def _profile(name: str) -> dict[str, str]:
    return {"type": "Localhost", "localhostProfile": name} if name else {"type": "Unconfined"}


def _resources(settings: KubeBuildSettings) -> dict[str, dict[str, str]]:
    """Return the same for both halves: a pod's share is the larger of the two, since they run one after the other."""
    disk = str(settings.disk_bytes)
    return {
        "requests": {
            "cpu": f"{settings.cpu_request:g}",
            "memory": str(settings.memory_request_bytes),
            "ephemeral-storage": str(min(_GIB, settings.disk_bytes)),
        },
        "limits": {
            "cpu": f"{settings.cpu_limit:g}",
            "memory": str(settings.memory_limit_bytes),
            "ephemeral-storage": disk,
        },
    }
