"""Clusters of launches on a real API server, made by both real processes with the documented permissions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest

from pangeo_binder.dask_start import scheduler_command, worker_command
from pangeo_binder.model import Launch
from tests.stack.control_plane import control_plane as run_control_plane
from tests.stack.local import until
from tests.stack.tools import ClusterTools

from .gatewaystand import API, CONTROLLER, IMAGE, SYSTEM, GatewayStand, a_launch, simulated_node

pytestmark = pytest.mark.timeout(200)

CLIENT_KNOWS = {"name", "dashboard_route", "status", "start_time", "stop_time", "options", "tls_cert", "tls_key"}
"""The keys of a cluster's record; dask-gateway's client fails on any other."""
SCHEDULER, WORKER = "dask-scheduler", "dask-worker"


@pytest.fixture(scope="module")
def stand(cluster_tools: ClusterTools, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayStand]:
    """The gateway on a control plane of its own: its simulated node would let other tests' pods run."""
    folder = tmp_path_factory.mktemp("gateway-kube")
    with run_control_plane(cluster_tools, folder / "plane") as plane, simulated_node(plane):
        running = GatewayStand(plane, folder)
        try:
            yield running.start()
        finally:
            running.stop()


@dataclass
class Running:
    """A cluster that runs."""

    launch: Launch
    token: str
    namespace: str
    name: str


@pytest.fixture(scope="module")
def running(stand: GatewayStand) -> Running:
    """A running cluster of the tier with a node of its own, with two workers, and its storage Secret."""
    stand.plane.apply(
        {
            "apiVersion": "scheduling.k8s.io/v1",
            "kind": "PriorityClass",
            "metadata": {"name": "important"},
            "value": 7,
        }
    )
    launch = a_launch("gpu")
    token, namespace = stand.launched(launch)
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "storage", "namespace": namespace}}
    stand.plane.apply({**secret, "stringData": {"AWS_SECRET_ACCESS_KEY": "s3cret-of-storage"}})
    name = stand.running(token)
    assert stand.heartbeat(name, 2).status == 200
    until("two workers", lambda: len(stand.pods(namespace, WORKER)) == 2, 30)
    return Running(launch, token, namespace, name)


class Scheduler:
    """Listens in place of the schedulers of simulated pods: receives messages, or redirects the gateway."""

    def __init__(self) -> None:
        self.heard: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self.redirect = ""
        scheduler = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                scheduler.paths.append(self.path)
                scheduler.heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(307 if scheduler.redirect else 200)
                self.send_header("Location", scheduler.redirect)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}"


@pytest.fixture
def scheduler(stand: GatewayStand) -> Iterator[Scheduler]:
    listening = Scheduler()
    thread = Thread(target=listening.server.serve_forever)
    thread.start()
    (stand.folder / "scheduler").write_text(listening.address)
    yield listening
    listening.server.shutdown()
    thread.join()
    listening.server.server_close()


def failed(stand: GatewayStand, token: str, name: str, seconds: float = 60) -> str:
    """Wait until a cluster has failed; return the message that its user sees."""
    until("it failed", lambda: stand.cluster(token, name)["status"] == "FAILED", seconds)
    waited = stand.ask(token, "GET", f"clusters/{name}?wait")
    assert waited.status == 409 and waited.json["error"] == stand.message(token, name)
    text: str = waited.json["error"]
    return text


@pytest.mark.parametrize("component", [SCHEDULER, WORKER])
def test_a_pod_is_the_launchs_own_and_can_do_little(stand: GatewayStand, running: Running, component: str) -> None:
    pod = stand.pods(running.namespace, component)[0]
    spec, container = pod["spec"], pod["spec"]["containers"][0]
    assert container["image"] == IMAGE
    command = {SCHEDULER: scheduler_command, WORKER: worker_command}[component]
    assert container["args"][:3] == command("python")
    assert spec["automountServiceAccountToken"] is False and spec["serviceAccountName"] == "default"
    assert spec["enableServiceLinks"] is False
    assert spec["securityContext"]["runAsUser"] == 1000 and spec["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert spec["nodeSelector"] == {"pool": "gpu"} and spec["priorityClassName"] == "important"
    assert {"key": "gpu", "operator": "Exists"} in spec["tolerations"]
    assert 7000 < spec["activeDeadlineSeconds"] <= 7260
    assert container["envFrom"] == [{"secretRef": {"name": "storage", "optional": False}}]
    assert {"name": "DASK_DISTRIBUTED__SCHEDULER__IDLE_TIMEOUT", "value": "900s"} in container["env"]


def test_workers_are_held_to_their_size(stand: GatewayStand, running: Running) -> None:
    worker = stand.pods(running.namespace, WORKER)[0]["spec"]["containers"][0]
    assert worker["resources"]["limits"] == worker["resources"]["requests"] == {"cpu": "1", "memory": str(2**30)}
    scheduler = stand.pods(running.namespace, SCHEDULER)[0]["spec"]["containers"][0]
    assert scheduler["resources"]["limits"] == {"cpu": "1", "memory": str(2**30)}


@pytest.mark.parametrize("kind", ["daskcluster", "pod", "service", "ingressroute", "ingressroutetcp", "secret"])
def test_all_objects_of_a_cluster_have_its_launchs_labels(stand: GatewayStand, running: Running, kind: str) -> None:
    found = [
        each["metadata"] for each in stand.objects(kind, running.namespace) if each["metadata"]["name"] != "storage"
    ]
    assert found
    for metadata in found:
        assert metadata["labels"]["pangeo-binder/launch"] == running.launch.id
        assert metadata["labels"]["pangeo-binder/tier"] == "gpu"
        assert metadata["labels"]["app.kubernetes.io/managed-by"] == "pangeo-binder"


def test_no_secret_is_in_records_pods_or_logs(stand: GatewayStand, running: Running) -> None:
    own = stand.objects("secret", running.namespace)
    written = json.dumps([stand.objects(kind, running.namespace) for kind in ("daskcluster", "pod", "service")])
    written += stand.log_of(API) + stand.log_of(CONTROLLER)
    assert "s3cret-of-storage" not in written and running.token not in written
    values = [value for secret in own for value in secret["data"].values()]
    assert len(values) == 4 and not [value for value in values if value in written]


def test_a_launch_without_storage_needs_no_secret(stand: GatewayStand) -> None:
    token, namespace = stand.launched(a_launch())
    stand.running(token)
    container = stand.pods(namespace, SCHEDULER)[0]["spec"]["containers"][0]
    assert container["envFrom"] == [{"secretRef": {"name": "storage", "optional": True}}]


def test_a_cluster_has_no_more_workers_than_granted(stand: GatewayStand) -> None:
    token, namespace = stand.launched(a_launch())
    name = stand.running(token)
    assert stand.heartbeat(name, 1000).status == 200
    until("four workers", lambda: len(stand.pods(namespace, WORKER)) == 4, 30)
    assert stand.heartbeat(name, 1).status == 200
    assert len(stand.pods(namespace, WORKER)) == 4, "running workers are the scheduler's to retire"


@pytest.mark.parametrize("count", [-1, 2.5, "2", True, None, float("nan"), float("inf"), [3]])
def test_a_heartbeat_that_makes_no_sense_is_refused(stand: GatewayStand, running: Running, count: Any) -> None:
    assert stand.heartbeat(running.name, count).status == 409
    assert stand.objects("daskcluster", running.namespace)[0]["spec"]["replicas"] == 2


def test_scaling_gets_what_is_granted_and_says_so(stand: GatewayStand, running: Running, scheduler: Scheduler) -> None:
    """dask-gateway's client warns with a GatewayWarning of a `msg` that is not `ok`."""
    scaled = stand.ask(running.token, "POST", f"clusters/{running.name}/scale", {"count": 1000})
    said = "Scale request of 1000 workers would exceed resource limit of 4 workers. Scaling to 4 instead."
    assert scaled.json == {"ok": False, "msg": said}
    adapted = stand.ask(running.token, "POST", f"clusters/{running.name}/adapt", {"minimum": 0, "maximum": 50})
    assert not adapted.json["ok"] and "resource limit of 4 workers" in adapted.json["msg"]
    within = stand.ask(running.token, "POST", f"clusters/{running.name}/scale", {"count": 2})
    assert within.json == {"ok": True, "msg": None}
    assert [said["op"] for said in scheduler.heard] == ["scale", "adapt", "scale"]
    assert [said.get("count") for said in scheduler.heard] == [4, None, 2] and scheduler.heard[1]["maximum"] == 4


def test_a_scheduler_sends_the_gateway_nowhere(stand: GatewayStand, scheduler: Scheduler) -> None:
    token, _ = stand.launched(a_launch())
    name = stand.running(token)
    scheduler.redirect = f"{scheduler.address}/elsewhere"
    scaled = stand.ask(token, "POST", f"clusters/{name}/scale", {"count": 1})
    assert scaled.status == 409 and scaled.json["error"] == f"cluster {name} is not running"
    assert scheduler.paths and set(scheduler.paths) == {"/api/comm"}
    assert stand.ask(token, "GET", "clusters/").json == {}, "a scheduler that takes no messages is stopped"


def test_many_requests_at_once_get_one_cluster(stand: GatewayStand) -> None:
    token, namespace = stand.launched(a_launch())
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: stand.make(token), range(6)))
    assert sorted(answer.status for answer in answers) == [201] + [422] * 5
    refused = next(answer for answer in answers if answer.status == 422)
    assert refused.json["error"].startswith("This launch may have 1 Dask cluster at a time and has 1.")
    assert len(stand.objects("daskcluster", namespace)) == 1


def test_a_quota_of_clusters_refuses_as_the_gateway_does(stand: GatewayStand) -> None:
    token, _ = stand.launched(a_launch(clusters=2), count__daskclusters_gateway_dask_org="1")
    name = stand.running(token)
    refused = stand.make(token)
    assert refused.status == 422
    assert refused.json["error"].startswith("This launch may have 2 Dask clusters at a time and has 1.")
    assert stand.ask(token, "DELETE", f"clusters/{name}").status == 204
    made = stand.make(token)
    assert made.status == 201, "the record of an ended cluster must not stand in the way of the next"


def test_a_cluster_that_was_shut_down_no_longer_counts(stand: GatewayStand) -> None:
    token, namespace = stand.launched(a_launch())
    for _ in range(3):
        made = stand.make(token)
        assert made.status == 201, made
        assert stand.ask(token, "DELETE", f"clusters/{made.json['name']}").status == 204
    assert stand.ask(token, "GET", "clusters/").json == {}
    until("its pods are gone", lambda: not stand.pods(namespace, SCHEDULER), 60)


def test_a_scheduler_that_a_quota_refuses_fails_with_a_sentence(stand: GatewayStand) -> None:
    token, namespace = stand.launched(a_launch(), limits_cpu="0", limits_memory="8Gi")
    made = stand.make(token)
    assert made.status == 201
    said = failed(stand, token, made.json["name"])
    assert said == "Kubernetes refused the scheduler of this Dask cluster, because the quota of cores is used up."
    secrets = stand.objects("secret", namespace)
    assert not secrets, "what was made for it is taken away"


def test_workers_that_a_quota_refuses_are_reported(stand: GatewayStand, scheduler: Scheduler) -> None:
    token, namespace = stand.launched(a_launch(), pods="3")
    name = stand.running(token)
    assert stand.heartbeat(name, 4).status == 200
    said = "Kubernetes refused more workers for this Dask cluster, because the quota of pods is used up."
    until("it is reported", lambda: stand.message(token, name) == said, 30)
    assert set(stand.cluster(token, name)) == CLIENT_KNOWS
    scaled = stand.ask(token, "POST", f"clusters/{name}/scale", {"count": 4})
    assert scaled.json == {"ok": False, "msg": said}
    until("there is room for two", lambda: len(stand.pods(namespace, WORKER)) == 2, 30)
    counted = stand.metrics()
    assert 'pangeo_binder_dask_refusals_total{what="worker",why="quota"}' in counted
    assert stand.heartbeat(name, 2).status == 200
    until("it is no longer reported", lambda: stand.message(token, name) == "", 60)


def test_as_many_pending_workers_go_as_are_too_many(stand: GatewayStand) -> None:
    token, namespace = stand.launched(a_launch(cores=60))  # the node has room for one of them
    name = stand.running(token)
    assert stand.heartbeat(name, 4).status == 200
    until("four workers", lambda: len(stand.pods(namespace, WORKER)) == 4, 30)
    until("one runs", lambda: phases(stand, namespace).count("Running") == 1, 30)
    assert stand.heartbeat(name, 3).status == 200
    until("one is gone", lambda: len(stand.pods(namespace, WORKER)) < 4, 30)
    assert sorted(phases(stand, namespace)) == ["Pending", "Pending", "Running"]


def phases(stand: GatewayStand, namespace: str) -> list[str]:
    return [pod["status"]["phase"] for pod in stand.pods(namespace, WORKER)]


def test_a_scheduler_that_cannot_start_fails_with_a_sentence(stand: GatewayStand) -> None:
    token, namespace = stand.launched(a_launch("nowhere"))
    made = stand.make(token)
    assert made.status == 201
    said = failed(stand, token, made.json["name"])
    assert said == "This Dask cluster did not start within 20 seconds: no node has room for its scheduler."
    until("its pod is gone", lambda: not stand.pods(namespace, SCHEDULER), 30)


def test_a_scheduler_that_is_evicted_fails_with_a_sentence(stand: GatewayStand) -> None:
    token, namespace = stand.launched(a_launch())
    name = stand.running(token)
    pod = stand.pods(namespace, SCHEDULER)[0]["metadata"]["name"]
    status = {"status": {"phase": "Failed", "reason": "Evicted", "containerStatuses": None}}
    stand.plane.kubectl(
        "patch", "pod", pod, "-n", namespace, "--subresource=status", "--type=merge", "-p", json.dumps(status)
    )
    assert "evicted the scheduler" in failed(stand, token, name)


def test_a_deleted_namespace_ends_its_cluster(stand: GatewayStand) -> None:
    launch = a_launch()
    token, namespace = stand.launched(launch)
    name = stand.running(token)
    assert stand.heartbeat(name, 4).status == 200
    stand.plane.kubectl("delete", "namespace", namespace, "--wait=false")
    until("the cluster is forgotten", lambda: stand.ask(token, "GET", f"clusters/{name}").status == 404, 60)
    refused = stand.make(token)
    assert refused.status == 422
    assert "this session is ending" in refused.json["error"]
    assert f"Error while reconciling cluster {name}" not in stand.log_of(CONTROLLER)


def test_clusters_end_with_their_server_and_at_their_age(stand: GatewayStand) -> None:
    stopped, old, kept = a_launch(), a_launch(age=20), a_launch()
    tokens = {launch.id: stand.launched(launch)[0] for launch in (stopped, old, kept)}
    for token in tokens.values():
        stand.running(token)
    stand.hub.end(stopped)
    owners = {f"{launch.user}/" for launch in (stopped, old)}
    until("both are reaped", lambda: not owners & stand.owners(), 90)
    assert f"{kept.user}/" in stand.owners()
    assert stand.ask(tokens[old.id], "GET", "clusters/").json == {}


def test_new_processes_adopt_a_running_cluster(stand: GatewayStand, running: Running) -> None:
    stand.crash()
    until("it runs", lambda: stand.cluster(running.token, running.name).get("status") == "RUNNING", 30)
    assert stand.make(running.token).status == 422
    assert stand.heartbeat(running.name, 3).status == 200
    until("three workers", lambda: len(stand.pods(running.namespace, WORKER)) == 3, 30)
    made = stand.objects("pod", running.namespace)
    assert all(pod["metadata"]["labels"]["pangeo-binder/launch"] == running.launch.id for pod in made)


def test_the_operator_sees_what_runs(stand: GatewayStand, running: Running) -> None:
    until("its workers are counted", lambda: mine(stand, running)["workers"] == len(workers_of(stand, running)), 30)
    owner = f"{running.launch.user}/"
    expected = {"name": running.name, "owner": owner, "status": "RUNNING", "max_workers": 4}
    assert {**mine(stand, running), **expected} == mine(stand, running)


def mine(stand: GatewayStand, running: Running) -> dict[str, Any]:
    return next(cluster for cluster in stand.active_clusters() if cluster["name"] == running.name)


def workers_of(stand: GatewayStand, running: Running) -> list[dict[str, Any]]:
    return stand.pods(running.namespace, WORKER)


def test_another_launchs_cluster_is_out_of_reach(stand: GatewayStand, running: Running) -> None:
    token, _ = stand.launched(a_launch())
    asked = [
        ("GET", "", None),
        ("GET", "?wait", None),
        ("GET", "?message", None),
        ("DELETE", "", None),
        ("POST", "/scale", {"count": 1}),
    ]
    for method, path, body in asked:
        assert stand.ask(token, method, f"clusters/{running.name}{path}", body).status == 403
    assert stand.ask(token, "DELETE", f"launches/{running.launch.user}/").status == 403
    assert stand.ask(token, "GET", "launches/").status == 403
    assert stand.cluster(running.token, running.name)["status"] == "RUNNING"


def test_the_hub_ends_a_launchs_clusters(stand: GatewayStand) -> None:
    launch = a_launch()
    token, _ = stand.launched(launch)
    stand.running(token)
    assert stand.ask(stand.hub.service("launches"), "DELETE", f"launches/{launch.user}/").status == 204
    assert stand.ask(token, "GET", "clusters/").json == {}


@pytest.mark.parametrize(
    ("account", "verb", "what", "where"),
    [
        (API, "get", "secrets", SYSTEM),
        (API, "list", "secrets", "launch"),
        (API, "create", "pods", "launch"),
        (API, "create", "daskclusters.gateway.dask.org", SYSTEM),
        (CONTROLLER, "get", "secrets", "launch"),
        (CONTROLLER, "create", "pods", SYSTEM),
        (CONTROLLER, "create", "pods --subresource=exec", "launch"),
    ],
)
def test_what_neither_process_may_do(
    stand: GatewayStand, running: Running, account: str, verb: str, what: str, where: str
) -> None:
    config = stand.plane.kubeconfig_for(f"{SYSTEM}/{account}")
    namespace = running.namespace if where == "launch" else where
    asked = stand.plane.kubectl("auth", "can-i", verb, *what.split(), "-n", namespace, config=config, check=False)
    assert asked.strip().endswith("no")
