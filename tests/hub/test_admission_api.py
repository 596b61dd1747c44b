"""Seats at a real hub: only the binder may ask, an invalid body is refused, and no server starts without a seat."""

from __future__ import annotations

import asyncio
import urllib.request
from collections.abc import Iterator
from typing import Any
from urllib.error import HTTPError

import pytest

from pangeo_binder.errors import SeatLost
from pangeo_binder.hub.request_limits import BODY_BYTES
from pangeo_binder.hub.roles import GATEWAY, LAUNCHES, STATUS
from pangeo_binder.model import to_wire
from pangeo_binder.names import new_launch_id
from pangeo_binder.policy.counters import PART_BYTES, PART_RESERVATIONS, Reservation, parts_of
from tests.hub.hubprocess import HubProcess, NewLaunch
from tests.stack.local import until
from tests.stack.seats import PATH, report_body

pytestmark = pytest.mark.timeout(300)

BODY = {"launch": "abcdefghijkl", "takes": {"a/servers": 1}, "limits": [{"keys": ["a/servers"], "allowed": 1}]}


@pytest.fixture
def counter() -> str:
    """A counter of the test's own."""
    return f"{new_launch_id()}/servers"


def asked(counter: str, allowed: int = 1) -> dict[str, Any]:
    limits = [{"keys": [counter], "allowed": allowed}]
    return {"launch": new_launch_id(), "takes": {counter: 1}, "limits": limits}


def test_a_seat_is_given_once(hub: HubProcess, counter: str) -> None:
    first = asked(counter)
    assert hub.ask("binder", "POST", PATH, first).status == 201
    full = hub.ask("binder", "POST", PATH, asked(counter))
    assert (full.status, full.json) == (409, {"limit": 0, "used": 1})
    assert hub.ask("binder", "DELETE", f"{PATH}/{first['launch']}").status == 204
    assert hub.ask("binder", "POST", PATH, asked(counter)).status == 201


@pytest.mark.parametrize("who", ["storage", "culler", GATEWAY, LAUNCHES, STATUS, "", "no-token-at-all"])
@pytest.mark.parametrize(("method", "path"), [("POST", PATH), ("PUT", PATH), ("DELETE", f"{PATH}/abcdefghijkl")])
def test_nobody_but_the_binder_asks(hub: HubProcess, who: str, method: str, path: str) -> None:
    assert hub.ask(who, method, path, BODY if method == "POST" else report_body()).status == 403


@pytest.fixture
def session_token(hub: HubProcess, new_launch: NewLaunch) -> Iterator[str]:
    launch = new_launch()
    asyncio.run(hub.launch(launch, hub.ticket(launch)))
    yield hub.session(launch)["environment"]["JUPYTERHUB_API_TOKEN"]
    hub.ask("culler", "DELETE", f"/pangeo-binder/users/{launch.user}")


def test_a_session_does_not_ask(hub: HubProcess, session_token: str) -> None:
    assert hub.ask(session_token, "POST", PATH, BODY).status == 403
    assert hub.ask(session_token, "PUT", PATH, report_body()).status == 403


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        {},
        {**BODY, "launch": "../../etc"},
        {**BODY, "launch": 7},
        {**BODY, "takes": {"a": -1}},
        {**BODY, "takes": {"a": "NaN"}},
        {**BODY, "takes": {"a" * 201: 1}},
        {**BODY, "takes": {f"a{number}": 1 for number in range(17)}},
        {**BODY, "limits": [{"keys": [], "allowed": 1}]},
        {**BODY, "limits": [{"keys": ["a"], "allowed": 1}] * 17},
    ],
)
def test_a_malformed_request_is_refused(hub: HubProcess, body: Any) -> None:
    assert hub.ask("binder", "POST", PATH, body).status == 400
    assert hub.ask("binder", "PUT", PATH, {"binder": "tests", "reservations": [body]}).status == 400


@pytest.mark.parametrize("binder", ["", "a b", "a" * 41, 7])
def test_a_report_names_its_binder(hub: HubProcess, binder: Any) -> None:
    assert hub.ask("binder", "PUT", PATH, {"binder": binder, "reservations": []}).status == 400


@pytest.mark.parametrize(("size", "status"), [(100, 400), (PART_BYTES, 400), (PART_BYTES + 1, 413)])
def test_a_body_has_a_bounded_size(hub: HubProcess, size: int, status: int) -> None:
    headers = {"Authorization": f"token {hub.tokens['binder']}", "Content-Type": "application/json"}
    request = urllib.request.Request(f"{hub.values.hub_api}{PATH}", b"{" * size, headers, method="POST")
    with pytest.raises(HTTPError) as refused:
        urllib.request.urlopen(request, timeout=60)
    with refused.value as answer:
        assert answer.status == status


@pytest.mark.parametrize(("size", "statuses"), [(BODY_BYTES, {403}), (BODY_BYTES + 1, {400, 0}), (10**7, {400, 0})])
def test_the_hub_reads_a_bounded_body_of_everybody(hub: HubProcess, size: int, statuses: set[int]) -> None:
    address = f"{hub.values.hub_api}/users/nobody/activity"
    request = urllib.request.Request(address, b" " * size, {"Content-Type": "application/json"}, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            status = answer.status
    except HTTPError as refused:
        with refused:
            status = refused.code
    except OSError:  # the hub closed the connection before it was all sent
        status = 0
    assert status in statuses
    assert hub.ask("binder", "GET", "/").status == 200


def test_a_long_report_arrives_in_parts(hub: HubProcess, counter: str) -> None:
    held = [Reservation(new_launch_id(), {counter: 1}, ()) for _ in range(PART_RESERVATIONS + 1)]
    for part in parts_of("tests", held):
        assert hub.ask("binder", "PUT", PATH, to_wire(part)).json["lost"] == []
    assert hub.ask("binder", "POST", PATH, asked(counter)).json["used"] == len(held)
    whole = {"binder": "tests", "reservations": [to_wire(each) for each in held]}
    assert hub.ask("binder", "PUT", PATH, whole).status == 400


async def test_no_server_starts_without_a_seat(hub: HubProcess, new_launch: NewLaunch) -> None:
    launch = new_launch()
    with pytest.raises(SeatLost, match="This launch lost its seat"):
        await hub.launch(launch, hub.ticket(launch), seat=False)
    assert not hub.processes(launch) and not hub.home(launch).exists()


async def test_a_server_counts_until_it_is_gone(hub: HubProcess, new_launch: NewLaunch, counter: str) -> None:
    launch = new_launch()
    total = {"keys": ["total/servers"], "allowed": 0}
    before = hub.ask("binder", "POST", PATH, {"launch": launch.id, "takes": {"total/servers": 1}, "limits": [total]})
    assert before.status == 409
    await hub.launch(launch, hub.ticket(launch))
    after = hub.ask("binder", "POST", PATH, {**asked(counter), "limits": [total], "takes": {"total/servers": 1}})
    assert after.json["used"] == before.json["used"] + 1, "the reservation became a server and counts once"
    assert hub.ask("binder", "DELETE", f"/users/{launch.user}/server").status in (202, 204)
    await asyncio.to_thread(until, "its home is gone", lambda: not hub.home(launch).exists(), 30)

    def counted() -> int:
        found = hub.ask("binder", "POST", PATH, {**asked(counter), "limits": [total], "takes": {"total/servers": 1}})
        return int(found.json["used"])

    await asyncio.to_thread(until, "its seat is free", lambda: counted() == before.json["used"], 30)


async def test_a_server_that_outlives_the_hub_keeps_its_seat(hub: HubProcess, new_launch: NewLaunch) -> None:
    launch, limit = new_launch(), {"keys": ["total/servers"], "allowed": 0}
    await hub.launch(launch, hub.ticket(launch))
    hub.kill()
    await asyncio.to_thread(hub.start)
    # a report of the same launch makes no second seat of it
    assert hub.ask("binder", "PUT", PATH, report_body(launch)).json["lost"] == []
    servers = hub.ask("binder", "PUT", PATH, report_body()).json["servers"]
    full = hub.ask("binder", "POST", PATH, {**asked("x/servers"), "takes": {"total/servers": 1}, "limits": [limit]})
    assert full.json["used"] == sum(servers.values()) >= 1
    hub.ask("culler", "DELETE", f"/pangeo-binder/users/{launch.user}")
