"""A namespace for builds like the chart's, the binder's own rights in it, and builders that use them."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pangeo_binder.builders.base import BuildEvent
from pangeo_binder.builders.kube.builder import KubeBuilder
from pangeo_binder.builders.kube.job import KubeBuildSettings
from pangeo_binder.builders.kube.registry import RegistrySettings
from pangeo_binder.model import Repo, RepoRef
from tests.builders.registryserver import RegistryServer, run_registry
from tests.stack.control_plane import ControlPlane

NAMESPACE = "builds"
RULES = (
    {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["create", "get", "list", "patch", "delete"]},
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]},
    {"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]},
)
"""All that the binder may do in the namespace of builds; docs/environments.md lists them."""
REPO = Repo(RepoRef("git", "https://example.org/org/sea", "main"), "a" * 40)


def namespace_objects(name: str = NAMESPACE, level: str = "privileged") -> list[dict[str, Any]]:
    """Return the namespace with its Pod Security level, and the binder's account and Role in it."""
    meta, rbac = {"name": "binder", "namespace": name}, "rbac.authorization.k8s.io"
    role = {"apiVersion": f"{rbac}/v1", "kind": "Role", "metadata": meta, "rules": list(RULES)}
    subject = {"kind": "ServiceAccount", **meta}
    reference = {"apiGroup": rbac, "kind": "Role", "name": "binder"}
    labels = {"pod-security.kubernetes.io/enforce": level}
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta},
        role,
        {**role, "kind": "RoleBinding", "roleRef": reference, "subjects": [subject], "rules": None},
    ]


def prepare(plane: ControlPlane, level: str = "privileged") -> None:
    """Make the namespace, and wait until pods can be made in it."""
    objects = [{key: value for key, value in each.items() if value} for each in namespace_objects(level=level)]
    plane.apply(*objects)
    for _ in range(100):
        if "default" in plane.kubectl("get", "serviceaccount", "-n", NAMESPACE, "-o", "name"):
            return
        time.sleep(0.2)


@dataclass
class Stand:
    """A control plane with a namespace for builds, a registry, and builders."""

    plane: ControlPlane
    registry: RegistryServer
    settings: KubeBuildSettings
    builder: Callable[..., KubeBuilder]

    def jobs(self) -> list[dict[str, Any]]:
        """Return all Jobs."""
        found: list[dict[str, Any]] = self.plane.get("jobs", "-n", NAMESPACE)["items"]
        return found

    def pods(self) -> list[dict[str, Any]]:
        """Return all pods, once there is one."""
        for _ in range(100):
            if found := self.plane.get("pods", "-n", NAMESPACE)["items"]:
                return list(found)
            time.sleep(0.2)
        raise AssertionError("no pod was made")

    def say(self, **status: Any) -> None:
        """Write the status of the one pod that a kubelet would write."""
        name = self.pods()[0]["metadata"]["name"]
        patch = json.dumps({"status": status})
        self.plane.kubectl("patch", "pod", name, "-n", NAMESPACE, "--subresource=status", "--type=merge", "-p", patch)

    def clear(self) -> None:
        """Remove all builds."""
        self.plane.kubectl("delete", "jobs", "--all", "-n", NAMESPACE, "--wait", "--cascade=foreground")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    """The registry that keeps environments."""
    with run_registry(tmp_path_factory.mktemp("images")) as server:
        yield server


@pytest.fixture
async def stand(control_plane: ControlPlane, images: RegistryServer, request: Any) -> AsyncIterator[Stand]:
    """Builders with the binder's own rights, each as in a process of its own."""
    prepare(control_plane)
    registry = RegistrySettings(
        images.address, plain_http=True, name=f"t/{request.node.name.lower()[-40:].strip('_-')}"
    )
    settings = KubeBuildSettings(
        namespace=NAMESPACE, image="pangeo-binder/builder:test", registry=registry, timeout_seconds=120
    )
    account: Path = control_plane.kubeconfig_for(f"{NAMESPACE}/binder")
    async with AsyncExitStack() as stack:

        def builder(config: Path = account, **changes: Any) -> KubeBuilder:
            made = KubeBuilder(dataclasses.replace(settings, **changes), str(config))
            stack.push_async_callback(made.close)
            return made

        stand = Stand(control_plane, images, settings, builder)
        yield stand
        stand.clear()


async def lines(builder: KubeBuilder, seen: list[BuildEvent] | None = None, repo: Repo = REPO) -> list[str]:
    """Follow a build to its end, append each event to `seen` as it comes, and return the lines."""
    seen = [] if seen is None else seen
    async for event in builder.build(repo):
        seen.append(event)
    return [event.line for event in seen]
