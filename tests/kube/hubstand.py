"""A real hub that starts servers as pods on a control plane, with the rights in docs/kubernetes.md and no others.

There is no node: the test writes a pod's status itself, as an administrator in place of the kubelet.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from pangeo_binder.deploy.local.values import free_port
from pangeo_binder.launch.hub import Hub
from pangeo_binder.local.parent import ends_with_parent
from pangeo_binder.model import ContainerImage, Grant, Launch, Link, Repo, RepoRef, ServerGrant, StorageGrant
from pangeo_binder.names import new_launch_id, user_name
from pangeo_binder.ticket import sign
from tests.stack.control_plane import ControlPlane
from tests.stack.local import Answer, request, until
from tests.stack.seats import reserve

ROOT = Path(__file__).parent.parent.parent
SYSTEM, KEY = "binder-system", "k" * 40
SERVICES = ("binder", "dask-gateway", "storage", "culler", "launches", "status")
IMAGE = "environments/sea@sha256:" + "a" * 64
GRANT = Grant("small", "r1", "Rule 1.", ServerGrant(1.5, 2**30, 600, 3600), storage=StorageGrant(2**20, 60))

LINK = Link("https://binder.example.org/", "v2/git/sea/main", f"v2/git/sea/{'a' * 40}", "https://example.org/sea")

CONFIG = """
import os, sys
from pangeo_binder.hub.dask.gateway import GatewayClusters, GatewayService
from pangeo_binder.hub.kube.spawner import KubeLaunchSpawner
from pangeo_binder.hub.kube.launch_objects import LaunchObjects
from pangeo_binder.hub.provision import Provisioner, StorageService
from pangeo_binder.hub.admission_api import handlers
from pangeo_binder.hub.admissions import AdmissionTable
from pangeo_binder.hub.roles import NAMESPACES, SERVER_TOKEN_SCOPES, roles
from pangeo_binder.hub.user_api import user_handlers
from pangeo_binder.hub.kube.settings import KubeSettings, Neighbours
from pangeo_binder.kube.api import KubeApi
from pangeo_binder.kube.placement import Placement
from pangeo_binder.kube.pods import TierPods
from pangeo_binder.local.parent import ends_with_parent
from tests.kube.hubstand import SERVICES
from tests.kube.launchhub import NoProxy
c.JupyterHub.bind_url = "http://127.0.0.1:1/"
c.JupyterHub.hub_bind_url = "http://127.0.0.1:{port}"
c.JupyterHub.db_url = "sqlite:///hub.sqlite"
c.JupyterHub.cookie_secret = b"0" * 32
c.JupyterHub.proxy_class = NoProxy
c.JupyterHub.cleanup_servers = False
c.JupyterHub.load_roles = roles(on_kubernetes=True)
c.JupyterHub.tornado_settings = {{"slow_spawn_timeout": 0}}
# the hub gives a service a session of its own, so a kill of the hub's process group does not reach it
reaper = ends_with_parent([sys.executable, "-m", "pangeo_binder.hub.kube.namespace_reaper", "{shared}"])
way = {{name: os.environ[name] for name in ("KUBECONFIG", "PYTHONPATH", "HOME")}}
c.JupyterHub.services = [
    *({{"name": name, "api_token": name.ljust(32, "-")}} for name in SERVICES),
    {{"name": NAMESPACES, "api_token": NAMESPACES.ljust(32, "-"), "command": reaper, "environment": way}},
]
c.JupyterHub.authenticator_class = "null"
c.Authenticator.any_allow_config = True
c.JupyterHub.spawner_class = KubeLaunchSpawner
spawner = c.KubeLaunchSpawner
spawner.ticket_keys = ["{key}"]
spawner.server_token_scopes = SERVER_TOKEN_SCOPES
spawner.admissions = AdmissionTable()
c.JupyterHub.extra_handlers = [*handlers(spawner.admissions), *user_handlers()]
nobody = GatewayService("http://127.0.0.1:1", "", {{}})
storage = StorageService("http://127.0.0.1:{storage}", "v" * 40)
spawner.provisioner = Provisioner(storage, GatewayClusters(nobody))
tiers = {{
    "gpu": TierPods({{"pool": "gpu"}}, ({{"key": "gpu", "operator": "Exists"}},)),
    "odd": TierPods(priority_class="there-is-none"),
}}
settings = KubeSettings(
    "{system}",
    Neighbours({{"app": "hub"}}, {{"app": "proxy"}}, {{"app": "storage"}}),
    Placement(shared="{shared}", tiers=tiers),
    pull_login='{{"auths": {{}}}}',
)
spawner.launch_objects = LaunchObjects(settings, KubeApi(os.environ["KUBECONFIG"]))
spawner.port = {server}
spawner.start_timeout = spawner.http_timeout = {seconds}
c.Spawner.poll_interval = 2
"""
STORAGE = """
from pathlib import Path
from pangeo_binder.storage.app import AdminCaller, Right, StorageSettings, run
caller = AdminCaller("v" * 40, frozenset({{Right.ISSUE}}))
run(StorageSettings(Path("storage"), "http://storage.example:9100", "m" * 40, (caller,), data_port=0, admin_port={}))
"""


def documented_rules(layout: str) -> list[dict[str, Any]]:
    """Return the rights that docs/kubernetes.md lists for a layout."""
    rows = re.findall(rf"^\| {layout} \|(.*)\|(.*)\|(.*)\|$", (ROOT / "docs/kubernetes.md").read_text(), re.MULTILINE)
    assert rows

    def words(text: str) -> list[str]:
        return ["" if word == "core" else word for word in text.replace("`", "").replace(",", " ").split()]

    return [dict(zip(("apiGroups", "resources", "verbs"), map(words, row), strict=True)) for row in rows]


def allow(plane: ControlPlane, account: str, rules: list[dict[str, Any]], namespace: str = "") -> Path:
    """Make a service account with these rights, in one namespace or in all; return its kubeconfig."""
    group, where = "rbac.authorization.k8s.io", {"name": account, "namespace": SYSTEM}
    kind = "Role" if namespace else "ClusterRole"
    metadata = {"name": account, **({"namespace": namespace} if namespace else {})}
    role = {"apiVersion": f"{group}/v1", "kind": kind, "metadata": metadata, "rules": rules}
    binding = {"apiVersion": f"{group}/v1", "kind": f"{kind}Binding", "metadata": metadata}
    binding["subjects"] = [{"kind": "ServiceAccount", **where}]
    binding["roleRef"] = {"apiGroup": group, "kind": kind, "name": account}
    names = [name for name in (SYSTEM, namespace) if name]
    spaces = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in names]
    plane.apply(*spaces, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": where}, role, binding)
    return plane.kubeconfig_for(f"{SYSTEM}/{account}")


def new_launch(tier: str = "small", **changes: Any) -> Launch:
    """Return a launch of a user of its own."""
    id_ = new_launch_id()
    repo = Repo(RepoRef("git", "https://example.org/sea", "main"), "a" * 40)
    grant = replace(GRANT, tier=tier)
    launch = Launch(id_, user_name("sea", id_), "", repo, ContainerImage("sea", IMAGE), grant, link=LINK)
    return replace(launch, **changes)


class HubStand:
    """The hub as a process, with its reaper, a storage service, and pods whose status the test writes."""

    def __init__(self, plane: ControlPlane, folder: Path, *, shared: str = "", seconds: int = 60) -> None:
        self.plane, self.folder, self.shared = plane, folder, shared
        folder.mkdir(exist_ok=True)
        self.port, self.server_port, storage = free_port(), free_port(), free_port()
        self.api = f"http://127.0.0.1:{self.port}/hub/api"
        account = "hub-shared" if shared else "hub"
        self.kubeconfig = allow(plane, account, documented_rules("shared" if shared else "own"), shared)
        values = {"port": self.port, "storage": storage, "server": self.server_port, "seconds": seconds}
        self._write("hub_config.py", CONFIG.format(**values, shared=shared, key=KEY, system=SYSTEM))
        self._write("storage.py", STORAGE.format(storage))
        # the server that answers at every pod's address: `127.0.0.1`
        listening = ["-m", "http.server", "--bind", "127.0.0.1", str(self.server_port)]
        self._others = [self._run("storage", "storage.py"), self._run("server", *listening)]

    def _write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)

    def _run(self, name: str, *command: str) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "KUBECONFIG": str(self.kubeconfig), "PYTHONPATH": str(ROOT)}
        with (self.folder / f"{name}.log").open("ab") as log:
            whole = ends_with_parent([sys.executable, *command])
            return subprocess.Popen(
                whole, cwd=self.folder, env=environment, stdout=log, stderr=log, start_new_session=True
            )

    def start(self) -> HubStand:
        self._hub = self._run("hub", "-m", "jupyterhub", "-f", "hub_config.py")
        until("the hub answers", self._answers, 60)
        return self

    def _answers(self) -> bool:
        assert self._hub.poll() is None, self.log
        try:
            return request(self.api).status == 200
        except OSError:
            return False

    @property
    def log(self) -> str:
        return (self.folder / "hub.log").read_text()

    def kill(self) -> None:
        """Kill the hub with the processes it runs, as a crash would."""
        os.killpg(self._hub.pid, signal.SIGKILL)
        self._hub.wait(30)

    def stop(self) -> None:
        for process in (self._hub, *self._others):
            process.terminate()
            process.wait(60)

    @staticmethod
    def token(service: str) -> str:
        """Return a service's token."""
        return service.ljust(32, "-")

    def ask(self, method: str, path: str, who: str = "binder") -> Answer:
        return request(f"{self.api}{path}", method, Authorization=f"token {self.token(who)}")

    def namespace(self, launch: Launch) -> str:
        return self.shared or f"launch-{launch.id}"

    def secret(self, kind: str, launch: Launch) -> str:
        return f"{kind}-{launch.id}" if self.shared else kind

    async def launch(self, launch: Launch, ticket: str = "") -> list[str]:
        """Start a server as the binder does; return the messages, or raise the binder's error."""
        hub = Hub(self.api, self.token("binder"), [KEY])
        try:
            await reserve(hub, launch)
            return [message async for message in hub.start(launch, ticket or sign(launch, [KEY], time.time()))]
        finally:
            await hub.close()

    def end(self, launch: Launch) -> None:
        """Stop the launch's server."""
        assert self.ask("DELETE", f"/users/{launch.user}/server").status in (202, 204)

    def is_there(self, launch: Launch) -> bool:
        """Whether the hub says that the launch's server runs."""
        server = self.ask("GET", f"/users/{launch.user}/servers/")
        return server.status == 200 and bool(server.json["ready"])

    def objects(self, launch: Launch, kinds: str) -> list[dict[str, Any]]:
        """Return the launch's objects."""
        where = ["-n", self.namespace(launch), f"--selector=pangeo-binder/launch={launch.id}"]
        found: list[dict[str, Any]] = self.plane.get(kinds, *where)["items"]
        return found

    def pod(self, launch: Launch) -> dict[str, Any]:
        """Wait for the server's pod, and return it."""
        found: dict[str, Any] = until("the pod", lambda: (self.objects(launch, "pods") or [None])[0])
        return found

    def becomes(self, launch: Launch, phase: str, reason: str = "", **state: Any) -> None:
        """Write the status of the server's pod that the kubelet would write."""
        name, ready = self.pod(launch)["metadata"]["name"], phase == "Running"
        container = {"name": "notebook", "image": IMAGE, "imageID": "", "restartCount": 0, "ready": ready}
        status = {"phase": phase, "containerStatuses": [{**container, "state": state}]}
        status |= {"podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}]} if ready else {}
        patch = json.dumps({"status": {**status, **({"reason": reason} if reason else {})}})
        where = ["-n", self.namespace(launch), "--subresource=status", "--type=merge"]
        self.plane.kubectl("patch", "pod", name, *where, "-p", patch)

    def runs(self, launch: Launch) -> None:
        """Let the server's pod run."""
        self.becomes(launch, "Running", running={"startedAt": "2026-01-01T00:00:00Z"})

    def is_gone(self, launch: Launch) -> bool:
        """Whether no object of the launch is left, or all are being deleted."""
        if self.shared:
            return not self.objects(launch, "pods,secrets,networkpolicies")
        found = self.plane.kubectl("get", "namespace", self.namespace(launch), "-o", "json", check=False)
        return "NotFound" in found or "deletionTimestamp" in json.loads(found)["metadata"]


def hub_stand(plane: ControlPlane, folder: Path, **how: Any) -> Iterator[HubStand]:
    """Run a hub on the control plane."""
    stand = HubStand(plane, folder, **how).start()
    try:
        yield stand
    finally:
        stand.stop()
