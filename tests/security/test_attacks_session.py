"""Attacks by launched code, with its own tokens, on the hub, the gateway and the storage service."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.security.stream import last_event
from tests.stack.local import Answer, LocalStack, Session, request, until
from tests.stack.repository import repository

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]


def hub(session: Session, method: str, path: str, body: Any = None) -> Answer:
    token = session.environment()["JUPYTERHUB_API_TOKEN"]
    return request(f"{session.stack.values.hub_api}{path}", method, body, Authorization=f"token {token}")


@pytest.mark.parametrize(
    "path", ["/users/{user}/server", "/users/{user}/servers/more", "/users/{user}/servers/", "/users/{user}/tokens"]
)
def test_it_cannot_start_servers_or_issue_tokens(attacker: Session, victim: Session, path: str) -> None:
    for user in (attacker.user, victim.user):
        assert hub(attacker, "POST", path.format(user=user), {"ticket": "x", "roles": ["admin"]}).status in (403, 404)


@pytest.mark.parametrize(
    "path", ["/users", "/users/{user}/servers/", "/users/{user}/server/progress", "/proxy", "/info"]
)
def test_it_cannot_read_any_launch(attacker: Session, victim: Session, path: str) -> None:
    for user in (attacker.user, victim.user):
        answer = hub(attacker, "GET", path.format(user=user))
        assert answer.status in (403, 404) and b"ticket" not in answer.body


def test_it_cannot_share_servers_or_delete_users(attacker: Session, victim: Session) -> None:
    assert hub(attacker, "POST", f"/shares/{attacker.user}/", {"user": victim.user}).status == 403
    assert hub(attacker, "POST", f"/share-codes/{attacker.user}/", {}).status == 403
    for user in (attacker.user, victim.user):
        assert hub(attacker, "DELETE", f"/users/{user}").status in (403, 404)


def in_hours(hours: float) -> str:
    return (datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=hours)).strftime("%Y-%m-%dT%H:%M:%SZ")


def test_it_cannot_report_future_activity_or_another_users(attacker: Session, victim: Session) -> None:
    for body in ({"last_activity": in_hours(2)}, {"servers": {"": {"last_activity": in_hours(2)}}}):
        assert hub(attacker, "POST", f"/users/{attacker.user}/activity", body).status == 400
    now = {"last_activity": in_hours(0)}
    assert hub(attacker, "POST", f"/users/{victim.user}/activity", now).status == 404
    assert hub(attacker, "POST", f"/users/{attacker.user}/activity", now).status == 200


def scheduler(session: Session) -> dict[str, str]:
    """Return the environment of the session's scheduler, which runs the session's code."""
    return session.stack.running("dask_scheduler", session.id)[0].environ()


@pytest.fixture(scope="module")
def cluster(attacker: Session) -> str:
    until("its cluster runs", lambda: [c for c in attacker.clusters() if c["status"] == "RUNNING"], 120)
    return attacker.clusters()[0]["name"]


def gateway(session: Session, path: str, body: Any) -> Answer:
    token = scheduler(session)["DASK_GATEWAY_API_TOKEN"]
    url = f"{session.stack.values.gateway_url}/api/v1/clusters/{path}"
    return request(url, "POST", body, Authorization=f"token {token}", Content_Type="application/json")


@pytest.mark.parametrize("count", [float("nan"), float("inf"), 10**40, 10**9, -(10**40)])
def test_a_schedulers_report_cannot_exceed_its_limit(attacker: Session, cluster: str, count: float) -> None:
    report = {"count": count, "active_workers": [], "closing_workers": [], "closed_workers": []}
    gateway(attacker, f"{cluster}/heartbeat", report)
    seen = attacker.clusters()[0]
    assert seen["workers"] <= seen["max_workers"] == 2
    assert seen["status"] == "RUNNING"


def test_a_clusters_token_only_allows_its_own_heartbeat(attacker: Session, victim: Session, cluster: str) -> None:
    until("the other's cluster runs", victim.clusters, 120)
    other = victim.clusters()[0]["name"]
    report = {"count": 0, "active_workers": [], "closing_workers": [], "closed_workers": []}
    for path, body in (
        (f"{other}/heartbeat", report),
        (f"{other}/scale", {"count": 0}),
        (f"{cluster}/scale", {"count": 1}),
    ):
        assert gateway(attacker, path, body).status == 401, path
    assert gateway(attacker, "", {"cluster_options": {}}).status == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"X_Forwarded_For": "192.0.2.1"},
        {"X_Real_Ip": "192.0.2.2"},
        {"X_Forwarded_For": "192.0.2.3, 192.0.2.4", "X_Real_Ip": "192.0.2.5", "Forwarded": "for=192.0.2.6"},
        {"X_Forwarded_For": "192.0.2.7", "X_Real_Ip": "192.0.2.7", "Connection": "X-Forwarded-For, X-Real-Ip"},
    ],
)
def test_a_client_cannot_choose_its_network(stack: LocalStack, one_each: str, headers: dict[str, str]) -> None:
    assert "The one seat of your network is taken." in last_event(one_each, **stack.login, **headers)["message"]


@pytest.fixture(scope="module")
def one_each(stack: LocalStack, folder: Path) -> str:
    """The event stream of a repository with one server per network, which this network already has."""
    repo = repository(folder / "one-each", {"requirements.txt": ""})
    stack.launch(repo)
    return f"{stack.url}build/git/{quote(repo, safe='')}/HEAD"


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_the_credentials_api_refuses_sessions(attacker: Session, victim: Session, method: str) -> None:
    environment, url = attacker.environment(), attacker.stack.values.storage_admin_url
    mine = ("", *(environment[name] for name in ("JUPYTERHUB_API_TOKEN", "JUPYTER_TOKEN", "AWS_SESSION_TOKEN")))
    for token in mine:
        for path in (f"/launches/{victim.id}", f"/launches/{victim.id}/environment", "/launches"):
            assert request(url + path, method, Authorization=f"Bearer {token}").status == 401
