"""A real stack's gateway: what the hub does with it, and each token against each address, permitted and refused."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from pangeo_binder.hub.dask.gateway import GatewayClusters, GatewayService
from pangeo_binder.local.processes import STATE_DIR
from pangeo_binder.model import DaskGrant, Grant, Launch, Repo, RepoRef, ServerGrant, VirtualEnvironment
from tests.contracts.clusters import Clustered, ClustersContract
from tests.stack.kernel import Kernel
from tests.stack.local import Answer, LocalStack, Session, request, until

pytestmark = [pytest.mark.stack, pytest.mark.timeout(400)]

TAMPER = """
async def tamper(dask_scheduler, lies):
    import gc
    service = next(each for each in gc.get_objects() if type(each).__name__ == "GatewaySchedulerService")
    service.count = 50
    workers = [worker.name for worker in dask_scheduler.workers.values()]
    message = {"count": 50, "active_workers": workers, "closing_workers": [], "closed_workers": []}
    if lies:
        message |= {"active_workers": [], lies: workers}
    await service.gateway.heartbeat(message)
    return len(workers)
"""


def ask(stack: LocalStack, token: str, method: str, path: str, body: Any = None) -> Answer:
    url = f"{stack.values.gateway_url}/api/v1/{path}"
    return request(url, method, body, Authorization=f"jupyterhub {token}", Content_Type="application/json")


def token(session: Session) -> str:
    return session.environment()["JUPYTERHUB_API_TOKEN"]


def make(session: Session, **options: Any) -> Answer:
    return ask(session.stack, token(session), "POST", "clusters/", {"cluster_options": options})


def end_clusters(session: Session) -> None:
    for cluster in session.clusters():
        ask(session.stack, token(session), "DELETE", f"clusters/{cluster['name']}")
    until("its clusters are gone", lambda: not session.clusters(), 60)


@pytest.fixture
def cluster(session: Session) -> Iterator[str]:
    """A cluster of the session, running."""
    made = make(session)
    assert made.status == 201, made
    name = made.json["name"]
    until("it runs", lambda: session.clusters()[0]["status"] == "RUNNING", 120)
    yield name
    end_clusters(session)


def hub_token(stack: LocalStack, user: str) -> str:
    """Return a token of the user that does not belong to a server, as the hub's command makes it."""
    config = stack.state_dir / "config" / "hub_config.py"
    command = [sys.executable, "-m", "jupyterhub", "token", "-f", str(config), user]
    environment = {**os.environ, STATE_DIR: ""}
    cwd = stack.state_dir / "run"
    return subprocess.run(command, cwd=cwd, env=environment, check=True, capture_output=True, text=True).stdout.strip()


class TestGatewayClusters(ClustersContract):
    """Clusters that the hub makes and releases at dask-gateway."""

    @pytest.fixture
    async def clustered(self, stack: LocalStack, session: Session, other: Session) -> AsyncIterator[Clustered]:
        secret, environment = stack.values.secrets.launches_token, {"DASK_GATEWAY__ADDRESS": stack.values.gateway_url}
        clusters = GatewayClusters(GatewayService(stack.values.gateway_url, secret, environment))
        away = GatewayClusters(GatewayService("http://127.0.0.1:1", secret, environment))
        existing = {each.id: each for each in (session, other)}
        yield Clustered(
            clusters,
            away,
            launch=launch_of(session),
            token=token(session),
            other=launch_of(other),
            other_token=token(other),
            existing=lambda launch: [cluster["name"] for cluster in existing[launch.id].clusters()],
            secrets=(secret,),
            away_address="127.0.0.1:1/",
        )
        await clusters.close()
        await away.close()


def launch_of(session: Session) -> Launch:
    """Return a session's launch as far as the hub's client of the gateway reads it."""
    grant = Grant("two", 2, "Rule 2.", ServerGrant(1, 10**9, 3600, 7200), DaskGrant(2, 4, 4, 4 * 10**9, 2, 10**9, 600))
    repo = Repo(RepoRef("git", "https://example.org/sea", "main"), "a" * 40)
    return Launch(session.id, session.user, "", repo, VirtualEnvironment("e", "/e", "/e/checkout"), grant)


@pytest.mark.parametrize("bogus", ["", "x", "a" * 64, "../../users", "é"])
def test_a_bogus_token_is_refused(stack: LocalStack, bogus: str) -> None:
    for method, path in (("GET", "clusters/"), ("POST", "clusters/"), ("GET", "launches/"), ("DELETE", "launches/u/")):
        assert ask(stack, bogus.encode().decode("latin-1"), method, path, {}).status == 401


@pytest.mark.parametrize("method", ["GET", "DELETE"])
@pytest.mark.parametrize("header", ["jupyterhub", "token", "x"])
def test_a_header_of_one_word_is_refused(stack: LocalStack, method: str, header: str) -> None:
    """Schedulers' requests go to the same addresses, and dask-gateway splits their header without a check."""
    for path in ("clusters/", "clusters/none", "clusters/none/adapt"):
        url = f"{stack.values.gateway_url}/api/v1/{path}"
        assert request(url, method, None, Authorization=header).status in (401, 404, 405), path


def test_a_token_of_the_user_but_of_no_server_is_refused(stack: LocalStack, session: Session) -> None:
    users_own = hub_token(stack, session.user)
    assert stack.hub("GET", "/user", users_own).json["name"] == session.user
    assert ask(stack, users_own, "GET", "clusters/").status == 401
    assert ask(stack, users_own, "POST", "clusters/", {"cluster_options": {}}).status == 401


def test_the_servers_own_access_token_is_not_the_hubs(stack: LocalStack, session: Session) -> None:
    assert ask(stack, session.token, "GET", "clusters/").status == 401


def test_another_launchs_cluster_is_out_of_reach(stack: LocalStack, other: Session, cluster: str) -> None:
    mine = token(other)
    assert ask(stack, mine, "GET", "clusters/").json == {}
    for method, path, body in (
        ("GET", f"clusters/{cluster}", None),
        ("DELETE", f"clusters/{cluster}", None),
        ("POST", f"clusters/{cluster}/scale", {"count": 1}),
        ("POST", f"clusters/{cluster}/adapt", {"minimum": 0, "maximum": 1}),
    ):
        assert ask(stack, mine, method, path, body).status in (403, 404), path


def test_the_own_cluster_is_in_reach(stack: LocalStack, session: Session, cluster: str) -> None:
    assert list(ask(stack, token(session), "GET", "clusters/").json) == [cluster]
    assert ask(stack, token(session), "GET", f"clusters/{cluster}").json["status"] == "RUNNING"


@pytest.mark.parametrize("whose", ["own", "other"])
def test_only_the_hub_ends_a_launchs_clusters(
    stack: LocalStack, session: Session, other: Session, cluster: str, whose: str
) -> None:
    path = f"launches/{session.user}/"
    refused = [token(session if whose == "own" else other), stack.values.secrets.status_token]
    assert [ask(stack, each, "DELETE", path).status for each in refused] == [403, 403]
    assert session.clusters()
    assert ask(stack, stack.values.secrets.launches_token, "DELETE", path).status == 204
    until("the cluster is gone", lambda: not session.clusters(), 60)


def test_only_the_operator_lists_all_clusters(stack: LocalStack, session: Session) -> None:
    for refused in (token(session), stack.values.secrets.launches_token):
        assert ask(stack, refused, "GET", "launches/").status == 403
    assert ask(stack, stack.values.secrets.status_token, "GET", "launches/").status == 200


def test_services_have_no_clusters(stack: LocalStack) -> None:
    for service in (stack.values.secrets.launches_token, stack.values.secrets.status_token):
        refused = ask(stack, service, "POST", "clusters/", {"cluster_options": {}})
        assert refused.status == 422 and "Only a launched session" in refused.json["error"]


def test_a_tier_without_dask_says_so(stack: LocalStack, without: Session) -> None:
    refused = make(without)
    assert refused.status == 403
    assert refused.json["error"] == "The tier 'none' of this launch has no Dask clusters."


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"image": "evil"}, "Unknown fields ['image']"),
        ({"environment": {"PATH": "/evil"}}, "Unknown fields ['environment']"),
        ({"scheduler_cmd": ["sh"], "worker_cmd": ["sh"]}, "Unknown fields ['scheduler_cmd', 'worker_cmd']"),
        ({"cluster_max_workers": 100}, "Unknown fields ['cluster_max_workers']"),
        ({"idle_timeout": 0}, "Unknown fields ['idle_timeout']"),
        ({"worker_cores": 3}, "worker_cores must be <= 2"),
        ({"worker_cores": 0}, "worker_cores must be >= 0.1"),
        ({"worker_cores": -1}, "worker_cores must be >= 0.1"),
        ({"worker_memory": 100}, "worker_memory must be <= 1"),
        ({"worker_memory": 0}, "worker_memory must be >= 0.25"),
        ({"worker_cores": "2"}, "worker_cores must be a float"),
        ({"worker_cores": float("nan")}, "worker_cores must be"),
        ({"worker_memory": float("nan")}, "worker_memory must be"),
        ({"worker_memory": float("inf")}, "worker_memory must be <= 1"),
    ],
)
def test_options_that_the_launch_may_not_choose_are_refused(
    session: Session, options: dict[str, Any], said: str
) -> None:
    refused = make(session, **options)
    assert refused.status == 422, refused
    assert said in refused.json["error"]
    assert not session.clusters()


def test_smaller_workers_may_be_more(session: Session) -> None:
    made = make(session, worker_cores=1, worker_memory=0.5)
    assert made.status == 201
    assert [cluster["max_workers"] for cluster in session.clusters()] == [2]
    end_clusters(session)


def test_many_requests_at_once_get_two_clusters(session: Session) -> None:
    mine, url = token(session), f"{session.stack.values.gateway_url}/api/v1/clusters/"
    command = [
        "curl",
        "-s",
        "-o",
        "/dev/null",
        "-w",
        "%{http_code}\n",
        "-H",
        "@-",
        "-H",
        "Content-Type: application/json",
    ]
    asking = [
        subprocess.Popen(
            [*command, "-d", '{"cluster_options": {}}', url], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for _ in range(8)
    ]
    answers = sorted(each.communicate(f"Authorization: jupyterhub {mine}".encode())[0] for each in asking)
    assert answers == [b"201\n"] * 2 + [b"422\n"] * 6
    end_clusters(session)


def workers(session: Session) -> int:
    """Return the number of the launch's worker processes, without their children."""
    return len(session.stack.running("dask_worker", session.id))


@pytest.mark.parametrize("lies", ["", "closing_workers", "closed_workers"])
def test_a_scheduler_that_lies_gets_no_more_workers(session: Session, cluster: str, lies: str) -> None:
    """`run_on_scheduler` runs the user's code in the scheduler, so no message of it may raise the limit."""
    attach = (
        f"from dask_gateway import Gateway\ncluster = Gateway().connect({cluster!r})\nclient = cluster.get_client()\n"
    )
    allowed = session.clusters()[0]["max_workers"]
    with Kernel(session) as kernel:
        kernel.value(f"{attach}cluster.scale(1)\nclient.wait_for_workers(1, timeout=120)\n{TAMPER}")
        seen = []
        for _ in range(10):
            kernel.run(f"client.run_on_scheduler(tamper, lies={lies!r})", seconds=60)
            kernel.value("import time; time.sleep(1)")
            seen.append(max(workers(session), session.clusters()[0]["workers"]))
        kernel.value("client.close()")
    assert allowed == 1 and max(seen) <= allowed, seen


def test_the_environment_is_the_sessions_own(session: Session, cluster: str) -> None:
    scheduler = session.stack.running("dask_scheduler", session.id)[0]
    assert scheduler.cmdline()[0] == str(Path(session.environment()["VIRTUAL_ENV"]) / "bin" / "python")
    names = scheduler.environ()
    assert not set(session.stack.values.secrets.ticket_keys) & set(names.values())
    assert "JUPYTERHUB_API_TOKEN" not in names and "JUPYTER_TOKEN" not in names
