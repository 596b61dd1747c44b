"""Every token may do what its service needs, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from pangeo_binder.hub.roles import GATEWAY, LAUNCHES, STATUS, roles
from pangeo_binder.model import Launch
from pangeo_binder.names import new_launch_id
from tests.hub.hubprocess import SERVICES, HubProcess, NewLaunch

pytestmark = pytest.mark.timeout(300)

REFUSED = {403, 404}
"""The hub hides with 404 what a token may not even know of."""
READ_USER, READ_SERVER, LIST = "GET /users/{user}", "GET /users/{user}/servers/", "GET /users"
MAKE_ACCOUNT, DELETE_ACCOUNT = "POST /users/new-{user}", "DELETE /users/{user}"
MAKE_USER, DELETE_USER = "POST /pangeo-binder/users/anonymous-new-{id}", "DELETE /pangeo-binder/users/{user}"
START, STOP = "POST /users/{user}/server", "DELETE /users/{user}/server"
CHANGE = "PATCH /users/{user}/servers/"
TOKENS, MINT, ACTIVE = "GET /users/{user}/tokens", "POST /users/{user}/tokens", "POST /users/{user}/activity"
PROMOTE = "PATCH /users/{user}"
PROXY, SHUTDOWN, GROUPS, SERVICES_LIST = "GET /proxy", "POST /shutdown", "GET /groups", "GET /services"
RESERVE, RENEW = "POST /pangeo-binder/admissions", "PUT /pangeo-binder/admissions"
RELEASE = "DELETE /pangeo-binder/admissions/abcdefghijkl"
ALL = (
    RESERVE, RENEW, RELEASE, LIST, READ_USER, READ_SERVER, MAKE_ACCOUNT, MAKE_USER, PROMOTE, START, CHANGE, TOKENS, MINT,
    ACTIVE,
    PROXY, SHUTDOWN, GROUPS, STOP, DELETE_ACCOUNT, DELETE_USER,
)  # fmt: skip
MAY = {
    "binder": {
        RESERVE,
        RENEW,
        RELEASE,
        LIST,
        READ_USER,
        READ_SERVER,
        MAKE_USER,
        START,
        CHANGE,
        STOP,
        DELETE_USER,
    },
    GATEWAY: {READ_USER, READ_SERVER},
    "storage": {READ_USER, READ_SERVER},
    "culler": {LIST, READ_USER, READ_SERVER, STOP, DELETE_USER},
    LAUNCHES: set(),
    STATUS: {LIST, READ_USER, READ_SERVER},
    # of its own name alone
    "session": {ACTIVE, READ_USER},
    "": set(),
}
BODIES = {
    RESERVE: {"launch": "abcdefghijkl", "takes": {"total/servers": 1}, "limits": []},
    RENEW: {"binder": "tests", "reservations": []},
    ACTIVE: {"last_activity": "2026-11-01T00:00:00Z"},
    CHANGE: {"user_options": {}},
}
SEES_STATE = {GATEWAY, "culler"}


@dataclass
class Running:
    """A launch's server, and its own token."""

    launch: Launch
    token: str


@pytest.fixture(scope="module")
def running(hub: HubProcess, new_launch: NewLaunch) -> Iterator[Running]:
    launch = new_launch()
    asyncio.run(hub.launch(launch, hub.ticket(launch)))
    yield Running(launch, hub.session(launch)["environment"]["JUPYTERHUB_API_TOKEN"])
    hub.ask("culler", "DELETE", f"/pangeo-binder/users/{launch.user}")


@pytest.fixture
def fresh(hub: HubProcess, new_launch: NewLaunch) -> Iterator[str]:
    """A user without a server, for requests that would change it."""
    user = new_launch().user
    assert hub.ask("binder", "POST", f"/pangeo-binder/users/{user}").status == 201
    yield user
    hub.ask("binder", "DELETE", f"/pangeo-binder/users/{user}")


def call(hub: HubProcess, who: str, what: str, user: str) -> int:
    method, path = what.format(user=user, id=new_launch_id()).split(" ")
    return hub.ask(who, method, path, BODIES.get(what, {} if method in ("POST", "PATCH") else None)).status


def test_the_table_is_of_all_services() -> None:
    assert set(MAY) == {*SERVICES, "session", ""}
    assert {role["services"][0] for role in roles() if "services" in role} == set(SERVICES)


@pytest.mark.parametrize("what", ALL)
@pytest.mark.parametrize("who", [*SERVICES, ""])
def test_a_service_may_do_what_it_needs_and_no_more(hub: HubProcess, fresh: str, who: str, what: str) -> None:
    status = call(hub, who, what, fresh)
    if what in MAY[who]:
        assert status < 300 or (what in (READ_SERVER, CHANGE) and status == 404), status
    else:
        assert status in REFUSED, status


@pytest.mark.parametrize("what", ALL)
def test_a_session_may_report_activity_and_no_more(hub: HubProcess, running: Running, what: str) -> None:
    status = call(hub, running.token, what, running.launch.user)
    assert status < 300 if what in MAY["session"] else status in REFUSED, status
    assert hub.processes(running.launch)


@pytest.mark.parametrize("what", ALL)
def test_a_session_may_do_nothing_to_others(hub: HubProcess, running: Running, fresh: str, what: str) -> None:
    assert call(hub, running.token, what, fresh) in REFUSED


@pytest.mark.parametrize("path", ["/user", "/users/{user}"])
def test_a_session_knows_its_name_and_launch_alone(hub: HubProcess, running: Running, path: str) -> None:
    me = hub.ask(running.token, "GET", path.format(user=running.launch.user)).json
    assert me["name"] == running.launch.user
    for hidden in ("servers", "server", "auth_state", "admin", "roles"):
        assert not me.get(hidden), hidden
    assert "ticket" not in str(me)
    assert path != "/user" or f"access:servers!server={running.launch.user}/" in me["scopes"]


@pytest.mark.parametrize("who", ["binder", GATEWAY, "storage", "culler", STATUS])
def test_the_launch_is_seen_by_those_who_limit_by_it(hub: HubProcess, running: Running, who: str) -> None:
    model = hub.ask(who, "GET", f"/users/{running.launch.user}/servers/").json
    assert model["ready"] is True
    assert ("state" in model) == (who in SEES_STATE)


@pytest.mark.parametrize("who", [*SERVICES, "session"])
def test_no_other_token_enters_a_session_by_the_hub(hub: HubProcess, running: Running, who: str) -> None:
    """Only the session itself has `access:servers`."""
    scopes = hub.ask(running.token if who == "session" else who, "GET", "/user").json["scopes"]
    access = {scope for scope in scopes if scope.startswith("access:servers")}
    assert access == ({f"access:servers!server={running.launch.user}/"} if who == "session" else set())
    assert not {"tokens", "self", "inherit", "admin:servers", "admin-ui", "shutdown", "proxy"} & set(scopes)
