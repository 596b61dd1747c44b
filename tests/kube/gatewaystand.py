"""dask-gateway's two processes as they run on Kubernetes, with only the permissions they need."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pangeo_binder.deploy.local.values import free_port
from pangeo_binder.model import ContainerImage, DaskGrant, Grant, Launch, Repo, RepoRef, ServerGrant, StorageGrant
from pangeo_binder.names import new_launch_id, user_name
from tests.stack.control_plane import ControlPlane
from tests.stack.local import Answer, request, until

from .launchhub import ROOT, LaunchHub

CRDS = Path(__file__).parent / "crds"
SYSTEM = "gateway-system"
API, CONTROLLER = "gateway-api", "gateway-controller"
DASK, TRAEFIK, GIB = "gateway.dask.org", "traefik.io", 2**30
IMAGE = f"registry.example/env@sha256:{'a' * 64}"


def _rule(group: str, resources: str, verbs: str) -> dict[str, Any]:
    return {"apiGroups": [group], "resources": resources.split(), "verbs": verbs.split()}


EVERYWHERE = {
    API: [_rule(DASK, "daskclusters", "list watch")],
    CONTROLLER: [_rule(DASK, "daskclusters", "list watch"), _rule("", "pods endpoints", "list watch")],
}
IN_LAUNCHES = {
    API: [_rule(DASK, "daskclusters", "create patch delete"), _rule("", "secrets", "get")],
    CONTROLLER: [
        _rule(DASK, "daskclusters", "delete"),
        _rule(DASK, "daskclusters/status", "patch"),
        _rule("", "pods secrets", "create delete"),
        _rule("", "services", "create"),
        _rule(TRAEFIK, "ingressroutes ingressroutetcps", "create"),
    ],
}
"""The rights of each process as in docs/dask.md: everywhere, and only in launches' namespaces."""

CONFIG = """
from pangeo_binder.gateway.auth import LaunchAuthenticator
from pangeo_binder.kube.pods import TierPods
from tests.kube.gatewaybackend import StandBackend
c.DaskGateway.backend_class = StandBackend
c.DaskGateway.authenticator_class = LaunchAuthenticator
c.DaskGateway.address = "127.0.0.1:{api}"
c.DaskGateway.log_level = c.KubeController.log_level = "DEBUG"
c.KubeBackend.gateway_instance = c.KubeController.gateway_instance = "stand"
c.KubeLaunchBackend.tier_pods = {{
    "gpu": TierPods({{"pool": "gpu"}}, ({{"key": "gpu", "operator": "Exists"}},), "important"),
    "nowhere": TierPods({{"pool": "none"}}),
}}
c.LaunchAuthenticator.jupyterhub_api_url = "{hub}"
c.LaunchAuthenticator.jupyterhub_api_token = "{token}"
c.LaunchAuthenticator.jupyterhub_service_name = "dask-gateway"
c.KubeController.address = "127.0.0.1:{controller}"
c.KubeController.api_url = "http://gateway.example/api"
c.LaunchController.start_seconds = {start_seconds}
c.LaunchController.quota_seconds = {quota_seconds}
c.LaunchController.backoff_max_delay = 1
"""


def a_launch(tier: str = "plain", clusters: int = 1, cores: float = 1, age: int = 7200) -> Launch:
    """Return a launch of its own with four workers; the tier `plain` has no storage."""
    dask = DaskGrant(clusters, 4, 4 * cores, 4 * GIB, cores, GIB, 600)
    stored = StorageGrant(GIB, 86400) if tier != "plain" else None
    grant = Grant(tier, "r1", "Because.", ServerGrant(1, GIB, 3600, age), dask, stored)
    repo, id_ = Repo(RepoRef("git", "https://example.org/some/repo", "HEAD"), "c" * 40), new_launch_id()
    return Launch(id_, user_name("repo", id_), "", repo, ContainerImage("e" * 20, IMAGE), grant)


class GatewayStand:
    """API server and controller of dask-gateway, on a control plane with simulated nodes, with a real hub."""

    def __init__(self, plane: ControlPlane, folder: Path) -> None:
        self.plane, self.folder = plane, folder
        self.hub = LaunchHub(folder)
        self.port, self.controller_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}/api/v1"
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self, start_seconds: float = 20, quota_seconds: float = 3) -> GatewayStand:
        for path in sorted(CRDS.glob("*.yaml")):
            self.plane.kubectl("apply", "-f", str(path))
        self.plane.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
        self.plane.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM}}, *_accounts())
        self.hub.start()
        numbers = {"api": self.port, "controller": self.controller_port, "hub": self.hub.api}
        times = {"start_seconds": start_seconds, "quota_seconds": quota_seconds}
        token = self.hub.service("dask-gateway")
        (self.folder / "config.py").write_text(CONFIG.format(**numbers, **times, token=token))
        self._run_both()
        return self

    def _run_both(self) -> None:
        self._run(API, "-m", "dask_gateway_server")
        self._run(CONTROLLER, "-m", "pangeo_binder.gateway.kube.controller")
        until("the gateway answers", self._answers, 60)

    def crash(self) -> None:
        """Kill both processes and start them again."""
        for process in self._processes:
            process.kill()
            process.wait(30)
        self._processes.clear()
        self._run_both()

    def _run(self, account: str, *command: str) -> None:
        kubeconfig = self.plane.kubeconfig_for(f"{SYSTEM}/{account}")
        environment = {**os.environ, "KUBECONFIG": str(kubeconfig), "PYTHONPATH": str(ROOT)}
        with (self.folder / f"{account}.log").open("ab") as log:
            whole = [sys.executable, *command, "-f", str(self.folder / "config.py")]
            self._processes.append(subprocess.Popen(whole, cwd=ROOT, env=environment, stdout=log, stderr=log))

    def _answers(self) -> bool:
        for process, name in zip(self._processes, (API, CONTROLLER), strict=True):
            assert process.poll() is None, self.log_of(name)
        try:
            urls = (f"http://127.0.0.1:{self.port}/api/health", f"http://127.0.0.1:{self.controller_port}/metrics")
            return all(request(url).status == 200 for url in urls)
        except OSError:
            return False

    def log_of(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()

    def stop(self) -> None:
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.wait(30)
        self._processes.clear()
        self.hub.stop()

    def namespace(self, launch: Launch, quota: dict[str, str] | None = None) -> str:
        """Make the launch's namespace, as the hub does, and return its name."""
        name = f"launch-{launch.id}"
        level = {"pod-security.kubernetes.io/enforce": "restricted"}
        made = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": level}}]
        made += [_binding(account, name) for account in (API, CONTROLLER)]
        if quota is not None:
            meta = {"name": "launch", "namespace": name}
            made.append({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": meta, "spec": {"hard": quota}})
        self.plane.apply(*made)
        until("pods can be made", lambda: self.has("serviceaccount", name), 30)
        if quota is not None:
            until("the quota counts", lambda: self.objects("resourcequota", name)[0].get("status", {}).get("used"), 30)
        return name

    def objects(self, kind: str, namespace: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.plane.get(kind, "-n", namespace)["items"]
        return found

    def launched(self, launch: Launch, **quota: str) -> tuple[str, str]:
        """Make the launch's namespace and start its server; return the server's token and the namespace."""
        hard = {name.replace("__", "/").replace("_", "."): value for name, value in quota.items()}
        namespace = self.namespace(launch, hard or None)
        return self.hub.launch(launch), namespace

    def has(self, kind: str, namespace: str) -> bool:
        return bool(self.objects(kind, namespace))

    def ask(self, token: str, method: str, path: str, body: Any = None) -> Answer:
        authorization = {"Authorization": f"jupyterhub {token}", "Content_Type": "application/json"}
        return request(f"{self.url}/{path}", method, body, **authorization)

    def make(self, token: str, **options: Any) -> Answer:
        return self.ask(token, "POST", "clusters/", {"cluster_options": options})

    def cluster(self, token: str, name: str) -> dict[str, Any]:
        record: dict[str, Any] = self.ask(token, "GET", f"clusters/{name}").json
        return record

    def running(self, token: str) -> str:
        """Make a cluster, and return its name once it runs."""
        made = self.make(token)
        assert made.status == 201, made
        name: str = made.json["name"]
        until("it runs", lambda: self.cluster(token, name)["status"] == "RUNNING", 60)
        return name

    def message(self, token: str, name: str) -> str:
        """Return the message that a cluster's user sees."""
        text: str = self.ask(token, "GET", f"clusters/{name}?message").json["message"]
        return text

    def heartbeat(self, name: str, count: Any) -> Answer:
        """Send a scheduler's heartbeat, with the number of workers it wants."""
        namespace, cluster = name.split(".")
        secret = self.plane.get("secret", f"dask-credentials-{cluster}", "-n", namespace)
        token = base64.b64decode(secret["data"]["api-token"]).decode()
        report = {"count": count, "active_workers": [], "closing_workers": [], "closed_workers": []}
        url = f"{self.url}/clusters/{name}/heartbeat"
        return request(url, "POST", report, Authorization=f"token {token}", Content_Type="application/json")

    def metrics(self) -> str:
        """Return the controller's metrics."""
        return request(f"http://127.0.0.1:{self.controller_port}/metrics").body.decode()

    def active_clusters(self) -> list[dict[str, Any]]:
        """Return all active clusters, as the operator's `status` command sees them."""
        listed: list[dict[str, Any]] = self.ask(self.hub.service("status"), "GET", "launches/").json
        return listed

    def owners(self) -> set[str]:
        return {cluster["owner"] for cluster in self.active_clusters()}

    def pods(self, namespace: str, component: str) -> list[dict[str, Any]]:
        """Return the pods of a component that are not being deleted."""
        every = self.objects("pods", namespace)
        mine = [pod for pod in every if pod["metadata"]["labels"]["app.kubernetes.io/component"] == component]
        return [pod for pod in mine if "deletionTimestamp" not in pod["metadata"]]


def _accounts() -> Iterator[dict[str, Any]]:
    rbac = "rbac.authorization.k8s.io/v1"
    for account in (API, CONTROLLER):
        yield {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": account, "namespace": SYSTEM}}
        for name, rules in ((account, EVERYWHERE), (f"{account}-launch", IN_LAUNCHES)):
            yield {"apiVersion": rbac, "kind": "ClusterRole", "metadata": {"name": name}, "rules": rules[account]}
        binding = {"apiVersion": rbac, "kind": "ClusterRoleBinding", "metadata": {"name": account}}
        role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": account}
        yield {**binding, "roleRef": role, "subjects": [_subject(account)]}


def _subject(account: str) -> dict[str, str]:
    return {"kind": "ServiceAccount", "name": account, "namespace": SYSTEM}


def _binding(account: str, namespace: str) -> dict[str, Any]:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": account, "namespace": namespace},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": f"{account}-launch"},
        "subjects": [_subject(account)],
    }


NODE = {
    "apiVersion": "v1",
    "kind": "Node",
    "metadata": {"name": "simulated", "labels": {"pool": "gpu"}, "annotations": {"kwok.x-k8s.io/node": "fake"}},
    "status": {
        "allocatable": {"cpu": "100", "memory": "1000Gi", "pods": "500"},
        "capacity": {"cpu": "100", "memory": "1000Gi", "pods": "500"},
    },
}


@contextmanager
def simulated_node(plane: ControlPlane) -> Iterator[None]:
    """Simulate a node on which every pod runs at once, by kwok."""
    arguments = [f"--kubeconfig={plane.kubeconfig}", "--manage-all-nodes=true", "--server-address="]
    plane.run("kwok", [plane.tools.kwok, *arguments])
    plane.apply(NODE)
    until("the node is ready", lambda: "True" in plane.kubectl("get", "node", "simulated", "-o", _READY), 60)
    yield


_READY = 'jsonpath={.status.conditions[?(@.type=="Ready")].status}'
