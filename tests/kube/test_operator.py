"""Dask clusters by the real operator on a real API server: their objects, their limits, refusals, and their end."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from pangeo_binder.errors import DaskUnavailable
from pangeo_binder.hub.dask.operator.clusters import OperatorClusters
from pangeo_binder.hub.dask.operator.manifests import OperatorSettings, cluster_name, dask_cluster
from pangeo_binder.hub.kube.launch_objects import LaunchObjects
from pangeo_binder.hub.kube.settings import KubeSettings, Neighbours
from pangeo_binder.kube.api import KubeApi
from pangeo_binder.kube.placement import Placement
from pangeo_binder.kube.pods import TierPods
from pangeo_binder.model import ContainerImage, DaskGrant, Grant, Launch, Repo, RepoRef, ServerGrant
from pangeo_binder.names import new_launch_id
from tests.kube.daskoperator import address_of, allow_hub, dask_operator, pretended_node
from tests.stack.control_plane import ControlPlane
from tests.stack.local import until

GIB = 2**30
DASK = DaskGrant(2, workers=6, cores=12, memory_bytes=48 * GIB, worker_cores=2, worker_memory_bytes=8 * GIB,
                 idle_seconds=600, start_workers=2)  # fmt: skip
REPO = Repo(RepoRef("git", "https://example.org/sea", "main"), "a" * 40)
ENVIRONMENT = ContainerImage("sea", "environments/sea@sha256:" + "a" * 64)
TIERS = {each: TierPods(node_selector={"room": each}) for each in ("nowhere", "later")}
SETTINGS = OperatorSettings(Placement(tiers=TIERS), start_seconds=90)
TOKEN = ""
WORK = """
import time
from distributed import Client

client = Client(timeout=60)
futures = client.map(lambda number: time.sleep(9), range(99))
input()
"""


async def soon(what: str, true: Callable[[], Any]) -> None:
    """Wait until `true()` is true, without blocking this process."""
    await asyncio.to_thread(until, what, true, 120)


@dataclass
class Stand:
    """A control plane with the operator, and the hub's kubeconfig."""

    plane: ControlPlane
    hub: Path
    log: Path

    def namespaced(self, launch: Launch, *arguments: str) -> Any:
        return self.plane.get(*arguments, "-n", SETTINGS.placement.namespace(launch))["items"]

    def deployments(self, launch: Launch, component: str) -> list[Any]:
        return self.namespaced(launch, "deployments", "-l", f"dask.org/component={component}")

    def quota(self, launch: Launch, **hard: str) -> None:
        """Add a quota to the launch's namespace, and wait until it is counted."""
        namespace = SETTINGS.placement.namespace(launch)
        metadata = {"name": "launch", "namespace": namespace}
        spec = {"hard": {name.replace("_", "."): amount for name, amount in hard.items()}}
        self.plane.apply({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": metadata, "spec": spec})
        # kinds of objects that are new to the cluster are counted after half a minute
        until(
            "it holds",
            lambda: self.namespaced(launch, "resourcequotas")[0]["status"].get("used", {}).keys() >= {*spec["hard"]},
        )


@pytest.fixture(scope="module")
def stand(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    folder = tmp_path_factory.mktemp("operator")
    hub = allow_hub(control_plane)
    with dask_operator(control_plane, folder) as log, pretended_node(control_plane, folder):
        yield Stand(control_plane, hub, log)


@pytest.fixture
async def clusters(stand: Stand) -> AsyncIterator[OperatorClusters]:
    """The hub's client, with only the hub's rights."""
    made = OperatorClusters(SETTINGS, str(stand.hub))
    yield made
    await made.close()


@pytest.fixture
def new_launch(stand: Stand) -> Iterator[Callable[..., Launch]]:
    """Make a launch with a namespace in which only restricted pods may be."""
    namespaces = []

    def make(tier: str = "small", **dask: Any) -> Launch:
        grant = Grant(tier, "r1", "Rule 1.", ServerGrant(1, GIB, 600, 3600), replace(DASK, **dask))
        launch = Launch(new_launch_id(), "sea-1", "", REPO, ENVIRONMENT, grant)
        metadata = {
            "name": SETTINGS.placement.namespace(launch),
            "labels": {"pod-security.kubernetes.io/enforce": "restricted"},
        }
        stand.plane.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
        namespaces.append(metadata["name"])
        until("the account", lambda: stand.namespaced(launch, "serviceaccounts"))
        return launch

    yield make
    for namespace in namespaces:
        stand.plane.kubectl("delete", "namespace", namespace, "--wait=false")


async def test_a_cluster_appears_as_it_was_granted(stand, clusters, new_launch):
    launch = new_launch()
    made = await clusters.make(launch, TOKEN)
    await clusters.settle(launch, made.name, TOKEN)
    until("the first workers", lambda: len(stand.deployments(launch, "worker")) == 2)
    pods = until("their pods", lambda: len(found := stand.namespaced(launch, "pods")) == 3 and found)
    assert {pod["metadata"]["labels"]["pangeo-binder/launch"] for pod in pods} == {launch.id}
    assert {pod["spec"]["automountServiceAccountToken"] for pod in pods} == {False}
    (service,) = stand.namespaced(launch, "services")
    assert made.environment["DASK_SCHEDULER_ADDRESS"] == (
        f"tls://{service['metadata']['name']}.{service['metadata']['namespace']}:8786"
    )
    (scaling,) = stand.namespaced(launch, "daskautoscalers")
    assert scaling["spec"] == {"cluster": made.name, "minimum": 2, "maximum": 6}


async def test_no_secret_is_in_any_object_but_the_secret(stand, clusters, new_launch):
    launch = new_launch()
    made = await clusters.make(launch, TOKEN)
    await clusters.settle(launch, made.name, TOKEN)
    key = made.environment["DASK_DISTRIBUTED__COMM__TLS__CLIENT__KEY"]
    everything = json.dumps(stand.namespaced(launch, "daskclusters,daskworkergroups,deployments,pods,events"))
    assert "BEGIN" not in everything and key.splitlines()[1] not in everything
    assert key not in repr(made)


def start(container: dict[str, Any], environment: dict[str, str], log: Path, *more: str) -> subprocess.Popen[bytes]:
    """Run a manifest's container command, with `environment` and `more` arguments instead of the cluster's."""
    variables = {each["name"]: each["value"] for each in container["env"]}
    command = [sys.executable, *container["args"][1:], *more]
    with log.open("wb") as file:
        return subprocess.Popen(command, env={**os.environ, **variables, **environment}, stdout=file, stderr=file)


@contextmanager
def running(launch: Launch, environment: dict[str, str], folder: Path, work: str = "") -> Iterator[None]:
    """Run the launch's scheduler where the operator finds it, and a worker, and give them `work`."""
    host, spec = address_of(launch.id), dask_cluster(launch, SETTINGS)["spec"]
    environment = {**environment, "DASK_SCHEDULER_ADDRESS": f"tls://{host}:8786"}
    containers = [spec[kind]["spec"]["containers"][0] for kind in ("scheduler", "worker")]
    wheres = ("--host", host, "--dashboard-address", f"{host}:8787"), ("--name", "one", "--no-nanny")
    logs = [folder / f"{container['name']}.log" for container in containers]
    processes = [start(*each[:3], *each[3]) for each in zip(containers, [environment] * 2, logs, wheres, strict=True)]
    client = [sys.executable, "-W", "ignore", "-c", work]
    processes.append(subprocess.Popen(client, env={**os.environ, **environment}, stdin=subprocess.PIPE))
    try:
        until("the scheduler answers", lambda: "dashboard at" in logs[0].read_text())
        yield
    finally:
        for process in reversed(processes):
            process.kill()
            process.communicate()


async def test_it_grows_with_the_work_and_never_beyond_the_grant(stand, clusters, new_launch, tmp_path):
    launch = new_launch(tier="later")
    made = await clusters.make(launch, TOKEN)
    with running(launch, dict(made.environment), tmp_path, WORK):
        # only now its pods are ready: an operator that finds no scheduler asks again after a minute
        stand.plane.kubectl("label", "node", "pretended", "room=later")
        await soon("all workers of the grant", lambda: len(stand.deployments(launch, "worker")) == 6)
        await asyncio.sleep(12)  # two more looks of the autoscaler
        assert len(stand.deployments(launch, "worker")) == 6


async def test_without_work_it_ends(stand, clusters, new_launch, tmp_path):
    launch, busy = new_launch(tier="nowhere", idle_seconds=10), new_launch(tier="nowhere", idle_seconds=10)
    (tmp_path / "busy").mkdir()
    environments = [dict((await clusters.make(each, TOKEN)).environment) for each in (launch, busy)]
    with (
        running(launch, environments[0], tmp_path),
        running(busy, environments[1], tmp_path / "busy", WORK),
    ):
        await soon("it is gone", lambda: not stand.namespaced(launch, "daskclusters,deployments"))
        assert stand.namespaced(busy, "daskclusters")


class HostileScheduler:
    """Wants a thousand workers, fails any other request, and waits for the operator to use Dask's protocol."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.spoken = 0

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append(request.path)
        if request.path == "/api/v1/adaptive_target":
            return web.json_response({"workers": 1000})
        return web.Response(status=500)

    async def speak(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.spoken += 1
        writer.close()


@asynccontextmanager
async def hostile_scheduler(launch: Launch) -> AsyncIterator[HostileScheduler]:
    """Run one at the address of the launch's scheduler."""
    hostile, app = HostileScheduler(), web.Application()
    app.router.add_route("*", "/{path:.*}", hostile.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, address_of(launch.id), 8787).start()
    async with await asyncio.start_server(hostile.speak, address_of(launch.id), 8786):
        yield hostile
    await runner.cleanup()


async def test_a_hostile_scheduler_gets_no_more_workers_and_no_control_of_the_operator(stand, clusters, new_launch):
    launch = new_launch()
    async with hostile_scheduler(launch) as hostile:
        await clusters.make(launch, TOKEN)
        await soon("it asked often", lambda: hostile.asked.count("/api/v1/check_idle") > 2)
        await soon("it got what is granted", lambda: len(stand.deployments(launch, "worker")) == 6)
        await soon("it asked for more", lambda: hostile.asked.count("/api/v1/adaptive_target") > 2)
        assert len(stand.deployments(launch, "worker")) == 6
        assert hostile.spoken == 0, "speaking Dask's protocol runs the scheduler's pickles in the operator"


@pytest.mark.parametrize(
    ("hard", "sentence"),
    [
        ({"limits_cpu": "500m"}, "the Dask cluster's scheduler, because the quota of cores is used up."),
        ({"pods": "1"}, "the Dask cluster's worker, because the quota of pods is used up."),
        ({"count/deployments_apps": "0"}, "the Dask cluster, because the quota of count/deployments.apps is used up."),
    ],
)
async def test_a_quota_refusal_is_reported_at_once(stand, clusters, new_launch, hard, sentence):
    launch = new_launch()
    stand.quota(launch, **hard)
    made = await clusters.make(launch, TOKEN)
    with pytest.raises(DaskUnavailable) as refused:
        for _ in range(5):  # a worker may be refused after the scheduler is ready
            await clusters.settle(launch, made.name, TOKEN)
            await asyncio.sleep(2)
    assert refused.value.message == f"Kubernetes refused {sentence}"


async def test_it_fits_into_the_launchs_own_quota(stand, clusters, new_launch):
    kind = "daskclusters.kubernetes.dask.org"
    launch = replace(new_launch(clusters=1, start_workers=6), id=new_launch_id())
    neighbours = Neighbours(hub={"a": "hub"}, proxy={"a": "proxy"}, storage={"a": "storage"})
    api = KubeApi(str(stand.plane.kubeconfig))
    objects = LaunchObjects(KubeSettings("default", neighbours, cluster_kinds=(kind,)), api)
    await objects.make(launch)
    made = await clusters.make(launch, TOKEN)
    await clusters.settle(launch, made.name, TOKEN)
    await soon("all it was granted runs", lambda: len(stand.namespaced(launch, "pods")) == 7)
    await clusters.settle(launch, made.name, TOKEN)
    await objects.remove(launch)
    await api.close()


async def test_a_cluster_that_may_not_be_is_refused_when_it_is_made(stand, clusters, new_launch):
    launch = new_launch()
    stand.quota(launch, **{"count/daskclusters_kubernetes_dask_org": "0"})
    with pytest.raises(DaskUnavailable, match=r"Kubernetes refused the Dask cluster, because the quota of"):
        await clusters.make(launch, TOKEN)


async def test_waiting_for_a_scheduler_without_a_node_ends(stand, new_launch):
    launch = new_launch(tier="nowhere")
    clusters = OperatorClusters(replace(SETTINGS, start_seconds=5), str(stand.hub))
    made = await clusters.make(launch, TOKEN)
    with pytest.raises(DaskUnavailable, match="did not start in time"):
        await clusters.settle(launch, made.name, TOKEN)
    assert until("it was tried", lambda: stand.namespaced(launch, "pods"))[0]["spec"]["nodeSelector"] == {
        "room": "nowhere"
    }
    await clusters.close()


async def test_release_leaves_nothing_and_may_be_repeated(stand, clusters, new_launch):
    launch, other = new_launch(), new_launch()
    for each in (launch, other):
        made = await clusters.make(each, TOKEN)
        await clusters.settle(each, made.name, TOKEN)
    await clusters.release(launch)
    kinds = "daskclusters,daskautoscalers,deployments,pods,secrets,networkpolicies"
    until("it is gone", lambda: not stand.namespaced(launch, kinds), 60)
    await clusters.release(launch)
    assert [each["metadata"]["name"] for each in stand.namespaced(other, "daskclusters")] == [cluster_name(other)]


@pytest.mark.parametrize("verb", ["create", "patch", "delete", "get"])
def test_a_session_may_not_touch_its_cluster(stand, new_launch, verb):
    namespace = SETTINGS.placement.namespace(new_launch())
    account = f"--as=system:serviceaccount:{namespace}:default"
    for resource in ("daskclusters", "daskautoscalers", "daskworkergroups"):
        asked = [verb, f"{resource}.kubernetes.dask.org", "-n", namespace]
        assert stand.plane.kubectl("auth", "can-i", *asked, account, check=False).startswith("no")
    allowed = stand.plane.kubectl("auth", "can-i", "create", "daskclusters.kubernetes.dask.org", config=stand.hub)
    assert allowed.strip() == "yes"


async def test_the_hub_may_do_no_more_than_it_needs(stand, new_launch):
    namespace = SETTINGS.placement.namespace(new_launch())
    for asked in (("get", "secrets"), ("create", "pods"), ("create", "deployments.apps"), ("delete", "namespaces")):
        assert stand.plane.kubectl("auth", "can-i", *asked, "-n", namespace, config=stand.hub, check=False).startswith(
            "no"
        )
