"""The real dask-kubernetes operator as a process of this machine, the hub's rights, and a simulated node.

Run as a module it is the operator itself, with one difference from a cluster: names in a launch's namespace resolve to
a loopback address of the launch's own, where a cluster's DNS and proxies would lead to pods.
"""

from __future__ import annotations

import hashlib
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dask_kubernetes

from tests.stack.control_plane import ControlPlane
from tests.stack.local import until

ROOT = Path(__file__).parent.parent.parent
CRDS = Path(dask_kubernetes.__file__).parent / "operator/deployment/helm/dask-kubernetes-operator/crds"
PREFIX = "launch"

HUB_RULES = [
    {"apiGroups": ["kubernetes.dask.org"], "resources": ["daskclusters"], "verbs": ["create", "get", "delete"]},
    {"apiGroups": ["kubernetes.dask.org"], "resources": ["daskautoscalers"], "verbs": ["create", "delete"]},
    {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["list", "deletecollection"]},
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]},
    {"apiGroups": [""], "resources": ["secrets"], "verbs": ["create", "delete"]},
    {"apiGroups": ["networking.k8s.io"], "resources": ["networkpolicies"], "verbs": ["create", "delete"]},
]
"""The rights that the hub needs, as listed in docs/dask.md."""

NODE: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Node",
    "metadata": {"name": "pretended", "annotations": {"kwok.x-k8s.io/node": "fake"}},
    "status": {"allocatable": {"cpu": "64", "memory": "256Gi", "ephemeral-storage": "500Gi", "pods": "200"}},
}


def allow_hub(plane: ControlPlane) -> Path:
    """Make the hub's account with only the rights it needs; return its kubeconfig."""
    where = {"name": "hub", "namespace": "default"}
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "hub-dask"}}
    binding = {**role, "kind": "ClusterRoleBinding", "subjects": [{"kind": "ServiceAccount", **where}]}
    binding["roleRef"] = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "hub-dask"}
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": where}
    plane.apply(account, {**role, "rules": HUB_RULES}, binding)
    return plane.kubeconfig_for("default/hub")


def address_of(launch_id: str) -> str:
    """Return the address to which names in a launch's namespace resolve."""
    return "127." + ".".join(str(1 + byte % 250) for byte in hashlib.sha256(launch_id.encode()).digest()[:3])


@contextmanager
def dask_operator(plane: ControlPlane, folder: Path) -> Iterator[Path]:
    """Install the operator's CustomResourceDefinitions and run it. Yields its log."""
    plane.kubectl("apply", "--server-side", "-f", str(CRDS))
    plane.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
    environ = {**os.environ, "KUBECONFIG": str(plane.kubeconfig), "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    environ["TMPDIR"] = str(folder)  # its client writes keys into temporary files, and leaves them there
    log = folder / "operator.log"
    with log.open("wb") as file:
        command = [sys.executable, "-m", "tests.kube.daskoperator"]
        process = subprocess.Popen(command, env=environ, stdout=file, stderr=file, cwd=folder)
    try:
        until("the operator watches", lambda: "Initial authentication" in log.read_text(), 60)
        yield log
    finally:
        _end(process)


@contextmanager
def pretended_node(plane: ControlPlane, folder: Path) -> Iterator[None]:
    """Simulate a node on which every pod is ready at once, without running anything."""
    with (folder / "kwok.log").open("wb") as log:
        command = [str(plane.tools.kwok), f"--kubeconfig={plane.kubeconfig}", "--manage-all-nodes=true"]
        command.append("--node-lease-duration-seconds=40")  # without heartbeats the node is soon taken for dead
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
    try:
        plane.apply(NODE)
        plane.kubectl("wait", "--for=condition=Ready", "node/pretended", "--timeout=60s")
        yield
    finally:
        plane.kubectl("delete", "node", "pretended", "--ignore-not-found")
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _operate() -> None:
    import aiohttp.connector
    from kopf.cli import main

    # that of `socket`, instead of one that asks a name server itself
    aiohttp.connector.DefaultResolver = aiohttp.ThreadedResolver  # type: ignore[misc]
    resolve = socket.getaddrinfo

    def resolved(host: Any, *more: Any, **options: Any) -> Any:
        found = re.search(rf"\.{PREFIX}-(\w+)$", str(host))
        return resolve(address_of(found[1]) if found else host, *more, **options)

    socket.getaddrinfo = resolved
    main(["run", "-m", "dask_kubernetes.operator.controller", "--all-namespaces", "--standalone"])


if __name__ == "__main__":
    _operate()
