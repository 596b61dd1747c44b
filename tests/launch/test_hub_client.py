"""The binder's client of the hub: what it says of every way in which the hub can fail, and what it keeps to itself."""

from __future__ import annotations

import logging
import time
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web

from pangeo_binder.answers import MAX_BYTES
from pangeo_binder.errors import HubUnavailable, SpawnFailed, TicketExpired, UserError, refusal_text
from pangeo_binder.launch import hub as module
from pangeo_binder.launch.hub import Hub
from pangeo_binder.model import Launch
from pangeo_binder.names import new_launch_id
from pangeo_binder.ticket import sign
from tests.launch.conftest import KEYS
from tests.launch.hubserver import TOKEN, SmallHub

INSIDES = "OperationalError: no such table users in /srv/hub.sqlite"
EXPIRED = TicketExpired("This ticket is older than 300 seconds.", "Open the launch link again.")


async def start(hub: Hub, launch: Launch) -> list[str]:
    async with aclosing(hub.start(launch, "a ticket")) as starting:
        return [message async for message in starting]


async def test_a_start_is_followed_to_its_end(rest: SmallHub, hub: Hub, launch: Launch) -> None:
    assert await start(hub, launch) == ["Half way"]
    assert rest.servers == {launch.user: "a ticket"}
    user = f"/users/{launch.user}"
    assert rest.calls == [f"POST /pangeo-binder{user}", f"POST {user}/server", f"GET {user}/server/progress"]


async def test_a_wrong_token_starts_nothing(rest: SmallHub, launch: Launch) -> None:
    hub = Hub(rest.url, TOKEN + "x", KEYS)
    with pytest.raises(HubUnavailable):
        await start(hub, launch)
    assert not rest.calls
    await hub.close()


@pytest.mark.parametrize("call", ["POST /pangeo-binder/users", "GET /users"])
@pytest.mark.parametrize("status", [400, 403, 429, 500, 503])
async def test_errors_of_the_hub_are_not_repeated(
    rest: SmallHub, hub: Hub, launch: Launch, call: str, status: int
) -> None:
    rest.broken = {call: web.Response(status=status, text=INSIDES)}
    with pytest.raises(HubUnavailable) as caught:
        await (start(hub, launch) if call == "POST /pangeo-binder/users" else hub.servers())
    assert "sqlite" not in str(caught.value)


async def test_a_lost_connection_is_told(rest: SmallHub, hub: Hub, launch: Launch) -> None:
    rest.tears = True
    rest.says = rest.says[:1]
    with pytest.raises(HubUnavailable, match="was lost while the server started"):
        await start(hub, launch)


@pytest.mark.parametrize("status", [400, 404])
async def test_a_server_that_was_gone_before_it_was_followed_is_told(
    rest: SmallHub, hub: Hub, launch: Launch, status: int
) -> None:
    rest.broken[f"GET /users/{launch.user}/server/progress"] = web.json_response({"status": status}, status=status)
    with pytest.raises(SpawnFailed, match="ended while it was starting"):
        [message async for message in hub.start(launch, "ticket")]


async def test_a_stream_that_ends_early_is_told(rest: SmallHub, hub: Hub, launch: Launch) -> None:
    rest.says = rest.says[:1]
    with pytest.raises(HubUnavailable, match="stopped reporting"):
        await start(hub, launch)


@pytest.mark.parametrize("where", ["at once", "in the stream"])
async def test_our_own_refusals_arrive_whole(rest: SmallHub, hub: Hub, launch: Launch, where: str) -> None:
    text = refusal_text(EXPIRED)
    if where == "at once":
        rest.broken = {f"POST /users/{launch.user}/server": web.json_response({"message": text}, status=403)}
    else:
        rest.says = ({"progress": 100, "failed": True, "message": f"Spawn failed: {text}"},)
    with pytest.raises(TicketExpired) as caught:
        await start(hub, launch)
    assert (caught.value.message, caught.value.hint) == (EXPIRED.message, EXPIRED.hint)


@pytest.mark.parametrize("where", ["at once", "in the stream"])
@pytest.mark.parametrize("text", [INSIDES, f"[spawn_failed] {INSIDES}", ""])
async def test_other_failures_stay_in_the_log(
    rest: SmallHub, hub: Hub, launch: Launch, caplog: pytest.LogCaptureFixture, where: str, text: str
) -> None:
    if where == "at once":
        rest.broken = {f"POST /users/{launch.user}/server": web.json_response({"message": text}, status=500)}
    else:
        rest.says = ({"progress": 100, "failed": True, "message": f"Spawn failed: {text}"},)
    with caplog.at_level(logging.ERROR), pytest.raises(SpawnFailed) as caught:
        await start(hub, launch)
    assert caught.value.message == "The server did not come up."
    assert text in caplog.text


@pytest.mark.parametrize("broken", ["<html>A proxy's page</html>", '[{"name": "sea', "null", "{}"])
async def test_a_list_that_cannot_be_read_is_not_an_empty_one(rest: SmallHub, hub: Hub, broken: str) -> None:
    rest.broken = {"GET /users": web.Response(text=broken)}
    with pytest.raises(HubUnavailable):
        await hub.servers()


async def test_all_pages_are_read(rest: SmallHub, hub: Hub, launch: Launch) -> None:
    launches = [replace(launch, id=new_launch_id(), user=f"sea-{number:03}") for number in range(401)]
    rest.servers = {each.user: sign(each, [KEYS[number % 2]], time.time()) for number, each in enumerate(launches)}
    rest.servers["stranger"] = "no ticket of ours"
    assert [server.launch for server in await hub.servers()] == launches
    assert rest.calls.count("GET /users") == 10
    rest.servers = dict.fromkeys([f"sea-{number}" for number in range(50)], "x" * 60_000)
    rest.servers["sea-7"] = rest.servers["sea-9"] = sign(launch, KEYS, time.time())
    assert [server.launch for server in await hub.servers()] == [launch], "a page that is too large is read in parts"
    rest.servers["sea-8"] = "x" * MAX_BYTES
    with pytest.raises(HubUnavailable):
        await hub.servers()


class Ending(dict[str, str]):
    """Servers of which some end after the first look."""

    def items(self) -> Any:
        """Return all that run before the look."""
        found = list(super().items())
        for user, _ in found[:9] if len(found) == 80 else ():
            del self[user]
        return found


async def test_servers_that_end_meanwhile_hide_no_other(rest: SmallHub, hub: Hub, launch: Launch) -> None:
    launches = [replace(launch, id=new_launch_id(), user=f"sea-{number:03}") for number in range(80)]
    rest.servers = {each.user: sign(each, KEYS, time.time()) for each in launches}
    rest.servers = Ending(rest.servers)
    assert {server.launch.id for server in await hub.servers()} >= {each.id for each in launches[9:]}


async def test_stopping_ends_server_and_user(rest: SmallHub, hub: Hub, launch: Launch) -> None:
    await start(hub, launch)
    await hub.stop(launch)
    assert not rest.servers and not rest.users


@pytest.mark.parametrize(("call", "status"), [("/server", 500), ("/server", 503), ("", 400), ("", 500)])
async def test_a_stop_that_the_hub_cannot_take_yet_is_repeated(
    rest: SmallHub, hub: Hub, launch: Launch, call: str, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_STOP_LOOK_SECONDS", 0.01)
    await start(hub, launch)
    rest.broken, rest.broken_calls = (
        {
            f"DELETE {'' if call else '/pangeo-binder'}/users/{launch.user}{call}": web.Response(
                status=status, text=INSIDES
            )
        },
        2,
    )
    await hub.stop(launch)
    assert not rest.servers and not rest.users


async def test_a_stop_is_not_repeated_for_ever(
    rest: SmallHub, hub: Hub, launch: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_STOP_SECONDS", 0)
    rest.broken = {"DELETE /users": web.Response(status=500)}
    with pytest.raises(HubUnavailable):
        await hub.stop(launch)


async def test_strange_names_stay_in_their_place(rest: SmallHub, hub: Hub, launch: Launch) -> None:
    await start(hub, replace(launch, user="../shutdown?x=#"))
    assert set(rest.servers) == {"../shutdown?x=#"}


def test_every_refusal_is_a_users_error() -> None:
    assert isinstance(EXPIRED, UserError)
