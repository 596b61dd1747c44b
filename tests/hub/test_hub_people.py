"""Servers of people with an account: named, bound to the person, and gone without the account."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pangeo_binder.errors import SpawnFailed, TicketInvalid
from pangeo_binder.hub.cull import leftovers
from pangeo_binder.launch.hub import Hub
from pangeo_binder.model import Launch
from pangeo_binder.names import is_anonymous_user, new_launch_id, server_name, user_name
from tests.hub.hubprocess import ACCOUNTS, HubProcess, NewLaunch
from tests.stack.local import until

pytestmark = pytest.mark.timeout(300)

NOW = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def people(hub: HubProcess) -> tuple[str, ...]:
    """Two accounts that the hub has from its start."""
    assert all(hub.ask("binder", "GET", f"/users/{name}").status == 200 for name in ACCOUNTS)
    return ACCOUNTS


@pytest.fixture
async def client(hub: HubProcess) -> AsyncIterator[Hub]:
    found = Hub(hub.values.hub_api, hub.tokens["binder"], hub.values.secrets.ticket_keys)
    yield found
    await found.close()


def of(person: str, launch: Launch) -> Launch:
    return replace(launch, user=person, server=server_name("sea", launch.id))


def servers(hub: HubProcess, person: str) -> dict[str, Any]:
    model = hub.ask("binder", "GET", f"/users/{person}?include_stopped_servers=1")
    assert model.status == 200, "the account is gone"
    return {name: server for name, server in model.json["servers"].items() if name}


async def test_a_person_has_several_servers_and_keeps_the_account(
    hub: HubProcess, client: Hub, new_launch: NewLaunch, people: tuple[str, ...]
) -> None:
    first, second = of(people[0], new_launch()), of(people[0], new_launch())
    for launch in (first, second):
        await hub.launch(launch, hub.ticket(launch))
    found = await client.servers_of(people[0])
    assert [each.launch for each in found] == [second, first]
    assert await client.servers_of(people[1]) == [] == await client.servers_of("nobody")
    await client.stop(first)
    await asyncio.to_thread(until, "the first is removed", lambda: first.server not in servers(hub, people[0]), 30)
    assert servers(hub, people[0])[second.server]["ready"]
    await client.stop(second)
    await asyncio.to_thread(until, "nothing is left but the account", lambda: servers(hub, people[0]) == {}, 30)


async def test_a_failed_start_keeps_the_account(
    hub: HubProcess, client: Hub, new_launch: NewLaunch, people: tuple[str, ...]
) -> None:
    launch = of(people[0], new_launch())
    broken = replace(launch, environment=replace(launch.environment, start=("sh", "-c", "exit 3")))
    with pytest.raises(SpawnFailed):
        await hub.launch(broken, hub.ticket(broken))
    await client.stop(broken)
    assert servers(hub, people[0]) == {}


async def test_an_account_that_was_deleted_is_not_made_again(hub: HubProcess, new_launch: NewLaunch) -> None:
    launch = of("former", new_launch())
    with pytest.raises(SpawnFailed):
        await hub.launch(launch, hub.ticket(launch))
    assert hub.ask("binder", "GET", "/users/former").status == 404


async def test_a_ticket_starts_no_server_of_another_person(
    hub: HubProcess, new_launch: NewLaunch, people: tuple[str, ...]
) -> None:
    adas = of(people[0], new_launch())
    stolen = replace(adas, user=people[1])
    for changed in (stolen, replace(adas, server=server_name("sea", new_launch_id()))):
        with pytest.raises(TicketInvalid, match="another server"):
            await hub.launch(changed, hub.ticket(adas))


async def test_a_persons_default_server_and_a_second_one_of_a_launchs_user_are_refused(
    hub: HubProcess, new_launch: NewLaunch, people: tuple[str, ...]
) -> None:
    launch = new_launch()
    for wrong in (replace(launch, user=people[1]), replace(launch, server=server_name("sea", launch.id))):
        with pytest.raises(TicketInvalid, match="People have named servers"):
            await hub.launch(wrong, hub.ticket(wrong))


@pytest.mark.parametrize("who", ["binder", "culler"])
@pytest.mark.parametrize("path", ["/users/{}", "/pangeo-binder/users/{}"])
def test_no_service_of_ours_makes_changes_or_deletes_an_account(
    hub: HubProcess, people: tuple[str, ...], who: str, path: str
) -> None:
    for method, name in (("DELETE", people[1]), ("POST", "mallory"), ("PATCH", people[1])):
        assert hub.ask(who, method, path.format(name), {"admin": True}).status in (403, 404, 405), method
    assert hub.ask("binder", "GET", f"/users/{people[1]}").status == 200
    assert hub.ask("binder", "GET", "/users/mallory").status == 404


def model(name: str, age: timedelta, **stopped: bool) -> dict[str, Any]:
    seen = (NOW - age).isoformat()
    found = {"name": name, "last_activity": seen}
    return {**found, "servers": {each: {"stopped": how, "last_activity": seen} for each, how in stopped.items()}}


OLD, YOUNG = timedelta(hours=1), timedelta()
ANONYMOUS = user_name("sea", "abcdefghijkl")


@pytest.mark.parametrize(
    ("user", "left"),
    [
        (model(ANONYMOUS, OLD), [f"/pangeo-binder/users/{ANONYMOUS}"]),
        (model(ANONYMOUS, YOUNG), []),
        ({**model(ANONYMOUS, OLD), "last_activity": None}, [f"/pangeo-binder/users/{ANONYMOUS}"]),
        ({**model(ANONYMOUS, OLD), "servers": {"": {"stopped": False}}}, []),
        (model("ada", OLD), []),
        (model("sea-abcdefghijkl", OLD), []),
        (model("ada/eve", OLD, gone=True, runs=False), ["/users/ada%2Feve/servers/gone"]),
        (model("ada", YOUNG, gone=True), []),
        ({**model("ada", OLD), "servers": {"": {"stopped": True, "last_activity": None}}}, []),
    ],
)
def test_the_culler_removes_users_of_launches_and_never_an_account(user: dict[str, Any], left: list[str]) -> None:
    assert leftovers(user, NOW - timedelta(minutes=1)) == left


@pytest.mark.parametrize(
    "name", ["ada", "anonymous", "anonymous-ada", "sea-abcdefghijkl", f"{ANONYMOUS}\n", "", "x" * 99]
)
def test_the_names_of_people_are_no_users_of_launches(name: str) -> None:
    assert is_anonymous_user(ANONYMOUS) and not is_anonymous_user(name)


async def test_the_user_of_a_launch_that_is_about_to_start_is_not_removed(
    hub: HubProcess, new_launch: NewLaunch
) -> None:
    """Between a user's making and its server's start, the user has neither a server nor an activity."""
    launch = new_launch()
    path = f"/pangeo-binder/users/{launch.user}"
    assert hub.ask("binder", "POST", path).status == 201
    (user,) = [each for each in hub.ask("culler", "GET", "/users").json if each["name"] == launch.user]
    assert leftovers(user, datetime.now(UTC) - timedelta(minutes=1)) == [path], "the culler cannot know its age"
    assert hub.ask("culler", "DELETE", f"{path}?unused_seconds=60").status == 409
    assert hub.ask("culler", "DELETE", f"{path}?unused_seconds=x").status == 400
    await hub.launch(launch, hub.ticket(launch))
    assert hub.ask("culler", "DELETE", f"{path}?unused_seconds=0").status == 409, "it has a server"
    assert hub.ask("binder", "DELETE", f"/users/{launch.user}/server").status in (202, 204)
    await asyncio.to_thread(
        until, "it is removed", lambda: hub.ask("culler", "DELETE", f"{path}?unused_seconds=0").status == 204, 30
    )
