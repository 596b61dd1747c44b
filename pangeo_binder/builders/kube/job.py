"""The Kubernetes Job that builds one environment, as a manifest. Pure.

The pod's containers run one after the other. `build` (an init container) runs the repository's code and has
no credentials; it writes an image into a directory. `push` runs none of that code and is the only one with the
registry's password. For a private repository, `fetch` runs before them: it too runs none of that code, and is the only
one with the repository's token. `_build_security` lists the rights of `build` that the Pod Security Standard
*restricted* denies: a user namespace needs them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ...addresses import PUBLIC, AddressRules
from ...kube.labels import COMPONENT_LABEL, annotation_text
from ...kube.pods import TierPods, restricted_container, restricted_pod
from ...model import FetchKind, Repo
from ...names import BUILD_LABEL, LABEL, MANAGED_LABELS
from ..base import BuildLimits
from ..pod_layout import (
    BUILD,
    BUILD_DIR,
    ENGINES,
    FETCH,
    GIT_HOSTS,
    GIT_NETWORKS,
    IMAGE_DIR,
    PUSH,
    SECRET_DIR,
    SECRET_FILE,
    TOKEN_DIR,
    TOKEN_FILE,
)
from .registry import RegistrySettings

_ANNOTATION_CHARACTERS: Final = 1024
_GIB: Final = 1 << 30
_STAYS: Final = {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"}  # keeps a node with a running build
_TMP: Final = "/tmp"  # noqa: S108 - each container's own


@dataclass(frozen=True, slots=True, kw_only=True)
class KubeBuildSettings(BuildLimits):
    """How environments are built on a cluster."""

    namespace: str
    """The namespace of the Jobs; it should contain nothing else."""
    image: str
    """The image of build pods (`images/builder`)."""
    registry: RegistrySettings
    push_secret: str = ""
    """The name of a Secret in the namespace, of type kubernetes.io/dockerconfigjson; empty if no password is needed."""
    token_secret: Callable[[str], str] | None = None
    """Returns the name of the Secret in the namespace with the token for the repository at a URL, in the key `token`.

    Empty for a public repository; None if all are.
    """
    engine: str = "buildah"
    """One of ENGINES."""
    cpu_request: float = 0.5
    cpu_limit: float = 2
    memory_request_bytes: int = _GIB
    memory_limit_bytes: int = 4 * _GIB
    disk_bytes: int = 20 * _GIB
    """The disk of a node that checkout, layers and image may use together."""
    keep_seconds: int = 600
    """How long an ended Job is kept, for its log."""
    retry_seconds: float = 120
    """How long the Kubernetes API may fail, and a pod may fail to start, before a build fails."""
    pods: TierPods = field(default_factory=TierPods)
    """The nodes of build pods, and their priority."""
    base_image: str = ""
    """The base image of environments without a Dockerfile; empty for repo2docker's own."""
    plain_http_registries: tuple[str, ...] = ()
    """Registries (`host[:port]`) from which Dockerfiles may pull images without TLS."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """Variables of `build`, such as HTTPS_PROXY; the repository's code can read them."""
    git: AddressRules = PUBLIC
    """Which git servers the checkout may contact."""
    seccomp_profile: str = ""
    """A profile on the nodes that allows user namespaces and mounts in them; empty for no profile."""
    apparmor_profile: str = ""
    """The same for AppArmor."""
    host_users: bool = True
    """Whether build pods use the node's user ids; False gives each pod its own user namespace, if the node can."""
    runtime_class: str = ""
    """A RuntimeClass that isolates build pods from the node's kernel; empty for the node's default runtime."""

    def __post_init__(self) -> None:
        if self.engine not in ENGINES:
            raise ValueError(f"engine is one of {', '.join(ENGINES)}, not {self.engine!r}")


def job_name(build_id: str) -> str:
    """Return the name of a build's Job: the same in every binder, so that there is one."""
    return f"build-{build_id}"


def job_manifest(build_id: str, repo: Repo, settings: KubeBuildSettings) -> dict[str, Any]:
    """Return the Job that builds `repo` and pushes it under the tag `build_id`."""
    labels = {**MANAGED_LABELS, COMPONENT_LABEL: "build", BUILD_LABEL: build_id}
    notes = {f"{LABEL}/repo": repo.ref.url, f"{LABEL}/ref": repo.ref.ref, f"{LABEL}/commit": repo.revision}
    annotations = {name: annotation_text(text, _ANNOTATION_CHARACTERS) for name, text in notes.items()}
    meta = {"labels": labels, "annotations": annotations}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": job_name(build_id), "namespace": settings.namespace, **meta},
        "spec": {
            "backoffLimit": 0,
            # the repository does not cause the loss of a node: such a pod is made again, within the deadline
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


def _pod(build_id: str, repo: Repo, settings: KubeBuildSettings) -> dict[str, Any]:
    size = str(settings.disk_bytes)
    # the image is the only volume that the repository's code writes and `push` reads
    names = ("image", "build", "build-tmp", "push-tmp")
    volumes: list[dict[str, Any]] = [{"name": name, "emptyDir": {"sizeLimit": size}} for name in names]
    if settings.push_secret:
        # only this key: with a Secret of another type no build starts
        items = [{"key": ".dockerconfigjson", "path": ".dockerconfigjson"}]
        volumes.append({"name": "push-secret", "secret": {"secretName": settings.push_secret, "items": items}})
    is_git = repo.fetch is FetchKind.GIT
    token = settings.token_secret(repo.ref.url) if is_git and settings.token_secret is not None else ""
    if token:
        volumes.append({"name": "fetch-tmp", "emptyDir": {"sizeLimit": size}})
        items = [{"key": "token", "path": "token"}]
        volumes.append({"name": "git-token", "secret": {"secretName": token, "items": items}})
    return {
        **restricted_pod(),
        **settings.pods.spec(),
        **_isolation(settings),
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 5,
        "initContainers": [*([_fetch(repo, settings)] if token else []), _build(repo, settings, fetched=bool(token))],
        "containers": [_push(build_id, settings)],
        "volumes": volumes,
    }


def _isolation(settings: KubeBuildSettings) -> dict[str, Any]:
    """Return what separates the pod from its node in addition to its containers' own rights."""
    runtime = {"runtimeClassName": settings.runtime_class} if settings.runtime_class else {}
    return {**runtime, **({} if settings.host_users else {"hostUsers": False})}


def _fetch(repo: Repo, settings: KubeBuildSettings) -> dict[str, Any]:
    """Return the container that fetches a private repository and has its token."""
    return {
        "name": FETCH,
        "image": settings.image,
        "args": [FETCH, f"--ref={repo.ref.ref}", f"--token-file={TOKEN_FILE}", "--", repo.ref.url, repo.revision],
        "env": _variables(settings),
        "resources": _resources(settings),
        "securityContext": {**restricted_container()["securityContext"], "readOnlyRootFilesystem": True},
        "volumeMounts": [
            {"name": "build", "mountPath": BUILD_DIR},
            {"name": "git-token", "mountPath": TOKEN_DIR, "readOnly": True},
            {"name": "fetch-tmp", "mountPath": _TMP},
        ],
    }


def _variables(settings: KubeBuildSettings, **more: str) -> list[dict[str, str]]:
    git = {GIT_HOSTS: " ".join(sorted(settings.git.hosts)), GIT_NETWORKS: " ".join(map(str, settings.git.networks))}
    return [{"name": name, "value": value} for name, value in {**settings.variables, **more, **git}.items() if value]


def _build(repo: Repo, settings: KubeBuildSettings, *, fetched: bool) -> dict[str, Any]:
    """Return the container that runs the repository's code."""
    options = {
        "PANGEO_BINDER_ENGINE": settings.engine,
        "PANGEO_BINDER_BASE_IMAGE": settings.base_image,
        "PANGEO_BINDER_PLAIN_HTTP": " ".join(settings.plain_http_registries),
    }
    how = ["--fetched"] if fetched else _archive_options(repo)
    return {
        "name": BUILD,
        "image": settings.image,
        # no part of a link may become an option of git, of repo2docker, or of ours
        "args": [BUILD, f"--ref={repo.ref.ref}", *how, "--", repo.ref.url, repo.revision],
        "env": _variables(settings, **options),
        "resources": _resources(settings),
        "securityContext": _build_security(settings),
        "volumeMounts": [
            {"name": "image", "mountPath": IMAGE_DIR},
            {"name": "build", "mountPath": BUILD_DIR},
            {"name": "build-tmp", "mountPath": _TMP},
        ],
    }


def _archive_options(repo: Repo) -> list[str]:
    if repo.fetch is FetchKind.GIT:
        return []
    return [f"--provider={repo.ref.provider}", f"--files-url={repo.files_url}"]


def _push(build_id: str, settings: KubeBuildSettings) -> dict[str, Any]:
    """Return the container that has the password."""
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
    """Return the least rights for a user namespace with more than one user in it.

    `newuidmap` and `newgidmap` map the users (SETUID, SETGID, and a set-uid bit that works); RuntimeDefault's seccomp
    and AppArmor profiles forbid user namespaces and mounts in them. None of these is a privilege on the node.
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
    """Return the same for all containers: they run one after the other, so the pod requests what one of them does."""
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
