"""A cluster that pretends to run pods, and a real hub on it whose every word to Kubernetes is counted.

etcd, API server, controllers and scheduler are real; nodes are kwok's. Pods' addresses are this machine's own.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from pangeo_binder.model import Launch
from tests.kube.hubstand import HubStand
from tests.stack.control_plane import ControlPlane
from tests.stack.local import until

from .meter import Meter

NODES = 10
_POD = {"apiGroup": "v1", "kind": "Pod"}
_STATUS = """
phase: Running
startTime: {{ Quote Now }}
podIP: 127.0.0.1
podIPs: [{ip: 127.0.0.1}]
hostIP: 127.0.0.1
conditions:
- {type: Initialized, status: "True", lastTransitionTime: {{ Quote Now }}}
- {type: Ready, status: "True", lastTransitionTime: {{ Quote Now }}}
- {type: ContainersReady, status: "True", lastTransitionTime: {{ Quote Now }}}
containerStatuses:
{{ range .spec.containers }}
- image: {{ Quote .image }}
  imageID: {{ Quote .image }}
  name: {{ Quote .name }}
  ready: true
  restartCount: 0
  state: {running: {startedAt: {{ Quote Now }}}}
{{ end }}
"""


def _stage(name: str, selector: list[dict[str, str]], then: dict[str, Any]) -> dict[str, Any]:
    spec = {"resourceRef": _POD, "selector": {"matchExpressions": selector}, "next": then}
    return {"apiVersion": "kwok.x-k8s.io/v1alpha1", "kind": "Stage", "metadata": {"name": name}, "spec": spec}


def _stages() -> list[dict[str, Any]]:
    """Return what becomes of pods: they run at once, at an address where something answers, and go at once."""
    deleted = ".metadata.deletionTimestamp"
    here = [{"key": deleted, "operator": "DoesNotExist"}, {"key": ".status.podIP", "operator": "DoesNotExist"}]
    runs = _stage("runs", here, {"statusTemplate": _STATUS})
    goes = _stage("goes", [{"key": deleted, "operator": "Exists"}], {"finalizers": {"empty": True}, "delete": True})
    return [runs, goes]


def _node(number: int) -> dict[str, Any]:
    room = {"cpu": "100k", "memory": "1000Ti", "ephemeral-storage": "1000Ti", "pods": "10k"}
    metadata = {"name": f"pretended-{number}", "annotations": {"kwok.x-k8s.io/node": "fake"}}
    return {"apiVersion": "v1", "kind": "Node", "metadata": metadata, "status": {"allocatable": room, "capacity": room}}


def pretend_nodes(plane: ControlPlane) -> None:
    """Give the control plane nodes on which pods run at once, as kwok pretends, until the control plane ends."""
    stages = plane.folder / "stages.yaml"
    stages.write_text("\n---\n".join(json.dumps(each) for each in _stages()))
    options = [f"--kubeconfig={plane.kubeconfig}", f"--config={stages}", "--manage-all-nodes=true", "--server-address="]
    plane.run("kwok", [plane.tools.kwok, *options, "--node-lease-duration-seconds=120"])
    plane.apply(*map(_node, range(NODES)))
    plane.kubectl("wait", "--for=condition=Ready", "node", "--all", "--timeout=60s")


class MeteredHub(HubStand):
    """The hub, behind the meter; the reaper is run by hand, since what fills the cluster is not the hub's."""

    def __init__(self, plane: ControlPlane, folder: Path, meter: Meter) -> None:
        super().__init__(plane, folder)
        self.meter = meter
        self._write(
            "hub_config.py", (folder / "hub_config.py").read_text() + "del c.JupyterHub.services[-1]['command']\n"
        )
        direct = json.loads(self.kubeconfig.read_text())
        direct["clusters"][0]["cluster"] = {"server": meter.url}
        self.kubeconfig = folder / "metered.kubeconfig"
        self.kubeconfig.write_text(json.dumps(direct))

    async def one(self, launch: Launch) -> None:
        """Start a launch as the binder does, and have it ended."""
        await self.launch(launch)
        await asyncio.to_thread(self.end, launch)
        # a stop takes longer than its answer, where the hub is slow
        await asyncio.to_thread(until, "it has stopped", lambda: self._has_stopped(launch))

    def _has_stopped(self, launch: Launch) -> bool:
        server = self.ask("GET", f"/users/{launch.user}/servers/")
        return server.status == 404 or bool(server.json["stopped"])


@asynccontextmanager
async def metered_hub(plane: ControlPlane, folder: Path) -> AsyncIterator[MeteredHub]:
    """Run a hub on the control plane."""
    async with Meter(plane.server, plane.authority.certificate) as meter:
        hub = await asyncio.to_thread(MeteredHub, plane, folder, meter)
        try:
            await asyncio.to_thread(hub.start)
            yield hub
        finally:
            await asyncio.to_thread(hub.stop)
