"""A real Kubernetes control plane as processes of this machine: etcd, API server, controller manager, scheduler.

Without a kubelet no pod runs, but the API server validates every object as in a real cluster. `node` adds the kubelet.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from ssl import create_default_context
from typing import Any

from pangeo_binder.local.ports import server_port

from .pki import Authority
from .tools import ClusterTools

LOOPBACK = "127.0.0.1"
SERVICES = "10.96.0.0/16"
SERVICE_ADDRESS = "10.96.0.1"
PODS = "10.244.0.0/16"
_START_SECONDS = 90
_STOP_SECONDS = 10


class ControlPlane:
    """A control plane in `folder` that listens on `host`; a context manager."""

    def __init__(self, tools: ClusterTools, folder: Path, host: str = LOOPBACK) -> None:
        self.tools, self.folder, self.host = tools, folder, host
        (folder / "pki").mkdir(parents=True)
        (folder / "logs").mkdir()
        self.authority = Authority(folder / "pki")
        self.port = server_port(host)
        self.server = f"https://{host}:{self.port}"
        self.kubeconfig = self.authority.kubeconfig_of(self.server, "admin", "system:masters")
        """The administrator's kubeconfig."""
        self._processes: list[tuple[str, subprocess.Popen[bytes]]] = []

    def run(self, name: str, command: Sequence[str | Path]) -> subprocess.Popen[bytes]:
        """Start a process that ends with the cluster; its log is in `logs`."""
        with (self.folder / "logs" / f"{name}.log").open("wb") as log:
            process = subprocess.Popen([*map(str, command)], stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        self._processes.append((name, process))
        return process

    def log_of(self, name: str) -> str:
        """Return the end of a process's log."""
        return (self.folder / "logs" / f"{name}.log").read_text(errors="replace")[-4000:]

    def kubectl(self, *arguments: str, stdin: str | None = None, check: bool = True, config: Path | None = None) -> str:
        """Run kubectl as the administrator, or with `config`, and return its output."""
        command = [self.tools.kubectl, f"--kubeconfig={config or self.kubeconfig}", *arguments]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=300, check=False)
        if check and done.returncode:
            raise AssertionError(f"kubectl {' '.join(arguments)}: {done.stderr or done.stdout}")
        return done.stdout if done.returncode == 0 else done.stdout + done.stderr

    def get(self, *arguments: str) -> Any:
        """Return the parsed JSON output of `kubectl get`."""
        return json.loads(self.kubectl("get", *arguments, "-o", "json"))

    def apply(self, *objects: dict[str, Any]) -> None:
        """Apply objects as the administrator."""
        listed = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        self.kubectl("apply", "-f", "-", stdin=json.dumps(listed))

    def kubeconfig_for(self, service_account: str, server: str = "") -> Path:
        """Return a kubeconfig with a new token for the service account `namespace/name`."""
        namespace, name = service_account.split("/")
        token = self.kubectl("create", "token", name, "-n", namespace, "--duration=2h").strip()
        return self.authority.kubeconfig(server or self.server, service_account, {"token": token})

    def __enter__(self) -> ControlPlane:
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End all processes in reverse order of their start."""
        for _, process in reversed(self._processes):
            process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._processes.clear()
        shutil.rmtree(self.folder / "etcd", ignore_errors=True)

    def _start(self) -> None:
        client, peer = server_port(LOOPBACK), server_port(LOOPBACK)
        etcd = f"http://{LOOPBACK}:{client}"
        urls = [f"--listen-client-urls={etcd}", f"--advertise-client-urls={etcd}"]
        peers = [f"--listen-peer-urls=http://{LOOPBACK}:{peer}"]
        # a test cluster need not survive a power cut, and etcd spends most of its time on fsync
        self.run("etcd", [self.tools.etcd, f"--data-dir={self.folder}/etcd", "--unsafe-no-fsync", *urls, *peers])
        self.run("kube-apiserver", [self.tools.kube_apiserver, *self._apiserver_arguments(etcd)])
        self._until_ready()
        self._controllers()

    def _apiserver_arguments(self, etcd: str) -> list[str]:
        names = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost")
        own = self.authority.issue("kube-apiserver", "system:masters", (LOOPBACK, self.host, SERVICE_ADDRESS, *names))
        key = self._account_key = self.authority.signing_key()
        return [
            f"--etcd-servers={etcd}",
            f"--bind-address={self.host}",
            f"--advertise-address={self._advertised}",
            f"--secure-port={self.port}",
            f"--tls-cert-file={own.certificate}",
            f"--tls-private-key-file={own.key}",
            f"--client-ca-file={self.authority.certificate}",
            f"--kubelet-client-certificate={own.certificate}",
            f"--kubelet-client-key={own.key}",
            f"--kubelet-certificate-authority={self.authority.certificate}",
            f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-cluster-ip-range={SERVICES}",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--allow-privileged=true",
            "--kubelet-preferred-address-types=InternalIP",
            "--endpoint-reconciler-type=" + ("none" if self.host == LOOPBACK else "master-count"),
        ]

    @property
    def _advertised(self) -> str:
        # an API server must not advertise loopback; without a node, no client uses the address
        return "192.0.2.1" if self.host == LOOPBACK else self.host

    def _controllers(self) -> None:
        for name, more in (
            ("kube-controller-manager", self._controller_arguments()),
            ("kube-scheduler", ["--kube-api-qps=200", "--kube-api-burst=400"]),
        ):
            config = self.authority.kubeconfig_of(self.server, f"system:{name}")
            own = [f"--kubeconfig={config}", f"--authentication-kubeconfig={config}"]
            own.append(f"--authorization-kubeconfig={config}")
            port = [
                f"--bind-address={LOOPBACK}",
                f"--secure-port={server_port(LOOPBACK)}",
                f"--authorization-kubeconfig={config}",
            ]
            program = getattr(self.tools, name.replace("-", "_"))
            self.run(name, [program, *own, *port, "--leader-elect=false", *more])

    def _controller_arguments(self) -> list[str]:
        return [
            f"--service-account-private-key-file={self._account_key}",
            f"--root-ca-file={self.authority.certificate}",
            "--use-service-account-credentials=true",
            f"--cluster-cidr={PODS}",
            "--allocate-node-cidrs=true",
            # quota must be up to date before the next object is created, and namespaces must be deleted quickly
            "--resource-quota-sync-period=10s",
            "--concurrent-namespace-syncs=10",
            "--kube-api-qps=200",
            "--kube-api-burst=400",
        ]

    def _until_ready(self) -> None:
        context = create_default_context(cafile=str(self.authority.certificate))
        identity = self.authority.issue("probe", "system:masters")
        context.load_cert_chain(identity.certificate, identity.key)
        ends = time.monotonic() + _START_SECONDS
        while time.monotonic() < ends:
            for name, process in self._processes:
                assert process.poll() is None, f"{name} ended: {self.log_of(name)}"
            with contextlib.suppress(urllib.error.URLError, OSError):
                if urllib.request.urlopen(f"{self.server}/readyz", context=context, timeout=5).status == 200:
                    return
            time.sleep(0.2)
        raise AssertionError(f"the API server did not become ready: {self.log_of('kube-apiserver')}")


@contextlib.contextmanager
def control_plane(tools: ClusterTools, folder: Path) -> Iterator[ControlPlane]:
    """Run a control plane on loopback, with the namespace `default` and its service account ready."""
    with ControlPlane(tools, folder) as plane:
        until_default_account(plane)
        yield plane


def until_default_account(plane: ControlPlane) -> None:
    """Wait until pods can be created in the namespace `default`."""
    ends = time.monotonic() + _START_SECONDS
    while "default" not in plane.kubectl("get", "serviceaccount", "-n", "default", "-o", "name", check=False):
        assert time.monotonic() < ends, plane.log_of("kube-controller-manager")
        time.sleep(0.3)
