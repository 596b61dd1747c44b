"""A real one-node cluster: the control plane, and a kubelet with containerd in its own namespaces.

The node is one process tree in mount, pid and network namespaces; killing its first process ends every container,
mount, bridge and iptables rule. A private link (two addresses of 10.x) joins it to the machine. Needs root.
kube-router enforces NetworkPolicies, CoreDNS resolves names, kube-proxy routes Services.
"""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pangeo_binder.local.ports import server_port

from .control_plane import PODS, SERVICES, ControlPlane, until_default_account
from .node_objects import containerd_config, dns_objects, kubelet_config
from .tools import ClusterTools

NODE = "node"
_READY_SECONDS = 120
_HIERARCHIES = ("cpu", "cpuacct", "cpuset", "memory", "pids", "systemd", "devices", "freezer", "blkio", "unified")

_RETRY_UNTIL_OK = 'until "$@"; do sleep 0.3; done'
"""Restarts kube-router, which ends while the API server does not know its node yet."""


class Cluster(ControlPlane):
    """A cluster with one node; a context manager. NodePorts answer at `address`, the node's address."""

    def __init__(self, tools: ClusterTools, folder: Path, archives: tuple[Path, ...] = ()) -> None:
        self.name = f"pb{random.randrange(16**6):06x}"
        third, fourth = random.randrange(256), random.randrange(0, 256, 4)
        self.address = f"10.203.{third}.{fourth + 2}"
        self._archives = archives
        self._link(f"10.203.{third}.{fourth + 1}")
        try:
            super().__init__(tools, folder, host=f"10.203.{third}.{fourth + 1}")
            self.registry = f"{self.host}:{server_port(self.host)}"
            """The address of the cluster's own image registry, without TLS."""
        except BaseException:
            self._unlink()
            raise

    def load(self, *archives: Path) -> None:
        """Load images on the node, as if it had pulled them before."""
        for archive in archives:
            assert self.inside("ctr", "-n", "k8s.io", "images", "import", str(archive)).wait() == 0, archive

    def inside(self, *command: str) -> subprocess.Popen[bytes]:
        """Start a program in the node's namespaces; it ends with the node."""
        init = next(process.pid for name, process in self._processes if name == "node")
        entered = ["nsenter", f"--target={_child_of(init)}", "--mount", "--pid", "--net"]
        return subprocess.Popen([*entered, *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def push(self, archive: Path, reference: str) -> str:
        """Push an image to the cluster's registry as `reference`, and return its address there."""
        target = f"{self.registry}/{reference}"
        copy = ["skopeo", "copy", "--insecure-policy", "--dest-tls-verify=false"]
        subprocess.run([*copy, f"docker-archive:{archive}", f"docker://{target}"], check=True, capture_output=True)
        return target

    def _link(self, host: str) -> None:
        _ip("link", "add", f"{self.name}h", "type", "veth", "peer", "name", f"{self.name}n")
        _ip("addr", "add", f"{host}/30", "dev", f"{self.name}h")
        _ip("link", "set", f"{self.name}h", "up")

    def _unlink(self) -> None:
        subprocess.run(["ip", "link", "del", f"{self.name}h"], capture_output=True, check=False)

    def _start(self) -> None:
        super()._start()
        self.apply(*dns_objects())
        self._start_registry()
        node = self.folder / "node"
        (node / "logs").mkdir(parents=True)
        self._cgroups("mkdir")
        (node / "node.json").write_text(json.dumps(self._init_config(node)))
        command = ["unshare", "--mount", "--pid", "--net", "--fork", "--kill-child", "--propagation", "private"]
        init = self.run(
            "node", [*command, sys.executable, Path(__file__).with_name("node_init.py"), node / "node.json"]
        )
        self._move_link(init.pid)
        self._until_node_ready(node)

    def _start_registry(self) -> None:
        """Run an image registry outside the node, at an address that the node and its pods reach."""
        config = {
            "version": 0.1,
            "storage": {"filesystem": {"rootdirectory": f"{self.folder}/registry"}, "delete": {"enabled": True}},
            "http": {"addr": self.registry, "secret": "only of this test"},
            "log": {"level": "warn"},
        }
        (self.folder / "registry.yaml").write_text(json.dumps(config))
        self.run("registry", ["docker-registry", "serve", self.folder / "registry.yaml"])

    def _move_link(self, unshare: int) -> None:
        """Move one end of the link into the node, once it has its own network namespace."""
        ends = time.monotonic() + 20
        own = Path("/proc/self/ns/net").readlink()
        while True:
            child = _child_of(unshare)
            if child and Path(f"/proc/{child}/ns/net").readlink() != own:
                break
            assert time.monotonic() < ends, self.log_of("node")
            time.sleep(0.05)
        _ip("link", "set", f"{self.name}n", "netns", child, "name", "eth0")

    def _init_config(self, node: Path) -> dict[str, Any]:
        socket = "/run/containerd/containerd.sock"
        (node / "containerd.toml").write_text(containerd_config(node, self.registry))
        (node / "kubelet.yaml").write_text(json.dumps(kubelet_config(self.authority.certificate, f"/{self.name}")))
        serving = self.authority.issue(f"system:node:{NODE}", "system:nodes", (NODE, self.address))
        shutil.copy(serving.certificate, node / "node.crt")
        shutil.copy(serving.key, node / "node.key")
        config = self.authority.kubeconfig_of(self.server, f"system:node:{NODE}", "system:nodes")
        imports = [["ctr", "-n", "k8s.io", "images", "import", str(archive)] for archive in self._archives]
        kubelet = [
            f"--config={node}/kubelet.yaml",
            f"--kubeconfig={config}",
            f"--hostname-override={NODE}",
            f"--node-ip={self.address}",
            f"--tls-cert-file={node}/node.crt",
            f"--tls-private-key-file={node}/node.key",
        ]
        return {
            "address": self.address,
            "gateway": self.host,
            "programs": [
                {
                    "name": "containerd",
                    "command": ["containerd", "--config", f"{node}/containerd.toml"],
                    "wait_for": socket,
                    "then": imports,
                },
                {"name": "kube-proxy", "command": [str(self.tools.kube_proxy), *self._proxy_arguments()]},
                {"name": "kubelet", "command": [str(self.tools.kubelet), *kubelet]},
                {"name": "kube-router", "command": ["sh", "-c", _RETRY_UNTIL_OK, "sh", *self._router_arguments()]},
            ],
        }

    def _proxy_arguments(self) -> list[str]:
        config = self.authority.kubeconfig_of(self.server, "system:kube-proxy")
        # conntrack limits belong to the machine, so the node must not set them
        untouched = [f"--conntrack-{name}=0" for name in ("max-per-core", "min")]
        return [f"--kubeconfig={config}", f"--hostname-override={NODE}", f"--cluster-cidr={PODS}", *untouched]

    def _router_arguments(self) -> list[str]:
        config = self.authority.kubeconfig_of(self.server, "kube-router", "system:masters")
        parts = ["--run-firewall=true", "--run-router=false", "--run-service-proxy=false", "--run-loadbalancer=false"]
        services = [f"--service-cluster-ip-range={SERVICES}"]
        own = [str(self.tools.kube_router), f"--kubeconfig={config}", f"--hostname-override={NODE}"]
        return [*own, *parts, *services, "--metrics-port=0"]

    def _cgroups(self, action: str) -> None:
        """Create or remove the node's control groups on the machine."""
        for controller in _HIERARCHIES:
            base = Path("/sys/fs/cgroup") / controller
            own = base / self.name
            if action == "mkdir" and base.is_dir():
                own.mkdir()
                if controller == "cpuset":
                    for file in ("cpuset.cpus", "cpuset.mems"):
                        (own / file).write_text((base / file).read_text())
            elif action == "rmdir" and own.is_dir():
                for folder in sorted((path for path in own.rglob("*") if path.is_dir()), reverse=True):
                    folder.rmdir()
                own.rmdir()

    def _until_node_ready(self, node: Path) -> None:
        ends = time.monotonic() + _READY_SECONDS
        while True:
            found = self.kubectl("get", "node", NODE, "-o", "jsonpath={.status.conditions[-1].status}", check=False)
            if found.strip() == "True":
                return
            if time.monotonic() > ends:
                logs = "\n".join(f"--- {log.name}\n{log.read_text()[-3000:]}" for log in (node / "logs").iterdir())
                raise AssertionError(f"the node did not become ready: {found}\n{self.log_of('node')}\n{logs}")
            time.sleep(0.3)

    def stop(self) -> None:
        """End the node with everything on it, then the control plane; leave nothing on the machine."""
        for name, process in self._processes:
            if name == "node":
                process.kill()
                process.wait()
        self._processes = [pair for pair in self._processes if pair[0] != "node"]
        super().stop()
        self._unlink()
        ends = time.monotonic() + 20
        while time.monotonic() < ends:
            with contextlib.suppress(OSError):
                self._cgroups("rmdir")
                break
            time.sleep(0.2)
        shutil.rmtree(self.folder / "node", ignore_errors=True)


def _child_of(unshare: int) -> str:
    """Return the node's first process as a pid of the machine; empty if there is none yet."""
    children = Path(f"/proc/{unshare}/task/{unshare}/children").read_text().split()
    return children[0] if children else ""


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@contextlib.contextmanager
def cluster(tools: ClusterTools, folder: Path, archives: tuple[Path, ...]) -> Iterator[Cluster]:
    """Run a cluster whose node has the images of `archives`."""
    with Cluster(tools, folder, archives) as running:
        assert isinstance(running, Cluster)
        until_default_account(running)
        yield running
