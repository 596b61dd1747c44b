"""A server starts with a good ticket only, gets what the ticket says, and nothing else in the request counts."""

from __future__ import annotations

import asyncio
import signal

import pytest

from pangeo_binder.errors import TicketExpired, TicketInvalid, TicketUsed
from pangeo_binder.model import STATE_KEY, Launch, to_wire
from pangeo_binder.ticket import TICKET_SECONDS, server_token
from tests.hub.hubprocess import HubProcess, NewLaunch
from tests.stack.local import request, until
from tests.stack.seats import PATH as ADMISSIONS
from tests.stack.seats import report_body

pytestmark = pytest.mark.timeout(300)


async def refused(hub: HubProcess, launch: Launch, ticket: str, error: type[TicketInvalid]) -> None:
    """The binder gets the very error, and nothing was made for the launch."""
    with pytest.raises(TicketInvalid) as caught:
        await hub.launch(launch, ticket)
    assert type(caught.value) is error
    assert ticket not in str(caught.value) or not ticket
    assert not hub.processes(launch) and not hub.home(launch).exists()


async def test_a_good_ticket_starts_what_it_says(hub: HubProcess, new_launch: NewLaunch) -> None:
    launch = new_launch()
    said = await hub.launch(launch, hub.ticket(launch))
    assert "Ticket accepted, starting the server" in said
    given = hub.session(launch)["environment"]
    assert given["JUPYTER_TOKEN"] == server_token(hub.values.secrets.ticket_keys[0], launch.id)
    assert (given["CPU_LIMIT"], given["MEM_LIMIT"]) == ("1.5", str(2**30))
    assert (hub.home(launch) / "README.md").read_text() == "Sea\n"
    assert hub.state(launch)[STATE_KEY] == to_wire(launch)
    url = f"{hub.values.public_url}user/{launch.user}/"
    assert request(url, Authorization=f"token {given['JUPYTER_TOKEN']}").json["environment"]["BINDER_REF"] == "a" * 40
    assert request(url).json == {}


async def test_no_ticket(hub: HubProcess, new_launch: NewLaunch) -> None:
    await refused(hub, new_launch(), "", TicketInvalid)


async def test_no_options_at_all(hub: HubProcess, new_launch: NewLaunch) -> None:
    launch = new_launch()
    assert hub.ask("binder", "POST", f"/users/{launch.user}").status == 201
    hub.ask("binder", "POST", f"/users/{launch.user}/server")
    until("the hub gave up", lambda: hub.ask("binder", "GET", f"/users/{launch.user}").json["servers"] == {})
    assert not hub.processes(launch) and not hub.home(launch).exists()


async def test_a_forged_ticket(hub: HubProcess, new_launch: NewLaunch) -> None:
    launch = new_launch()
    await refused(hub, launch, hub.ticket(launch, keys=["a" * 64]), TicketInvalid)


async def test_a_changed_ticket(hub: HubProcess, new_launch: NewLaunch) -> None:
    launch = new_launch()
    body, dot, signature = hub.ticket(launch).rpartition(".")
    await refused(hub, launch, f"{body}x{dot}{signature}", TicketInvalid)


async def test_a_ticket_for_another_user(hub: HubProcess, new_launch: NewLaunch) -> None:
    launch = new_launch()
    await refused(hub, launch, hub.ticket(new_launch()), TicketInvalid)


async def test_an_expired_ticket(hub: HubProcess, new_launch: NewLaunch) -> None:
    launch = new_launch()
    await refused(hub, launch, hub.ticket(launch, age_seconds=TICKET_SECONDS + 5), TicketExpired)


async def test_a_ticket_of_tomorrow(hub: HubProcess, new_launch: NewLaunch) -> None:
    launch = new_launch()
    await refused(hub, launch, hub.ticket(launch, age_seconds=-3600), TicketExpired)


async def test_a_ticket_is_good_once(hub: HubProcess, new_launch: NewLaunch) -> None:
    launch = new_launch()
    ticket = hub.ticket(launch)
    await hub.launch(launch, ticket)
    assert hub.ask("binder", "DELETE", f"/users/{launch.user}/server").status in (202, 204)
    await asyncio.to_thread(until, "the server is gone", lambda: not hub.processes(launch), 30)
    await asyncio.to_thread(until, "its home is gone", lambda: not hub.home(launch).exists(), 30)
    await refused(hub, launch, ticket, TicketUsed)


async def test_other_options_change_nothing(hub: HubProcess, new_launch: NewLaunch) -> None:
    launch = new_launch()
    options = {
        "ticket": hub.ticket(launch),
        "cmd": ["sh", "-c", "touch /tmp/owned"],
        "args": ["--owned"],
        "environment": {"OWNED": "1"},
        "mem_limit": "100G",
        "cpu_limit": 100,
        "launch": {"grant": "everything"},
        "profile": "large",
    }
    assert hub.ask("binder", "POST", f"/users/{launch.user}").status == 201
    assert hub.ask("binder", "PUT", ADMISSIONS, report_body(launch)).status == 200
    assert hub.ask("binder", "POST", f"/users/{launch.user}/server", options).status == 202
    await asyncio.to_thread(until, "the server runs", lambda: hub.processes(launch), 30)
    session = hub.session(launch)
    assert not any("owned" in argument.lower() for argument in session["arguments"])
    assert "OWNED" not in session["environment"]
    assert (session["environment"]["CPU_LIMIT"], session["environment"]["MEM_LIMIT"]) == ("1.5", str(2**30))
    assert hub.state(launch)[STATE_KEY] == to_wire(launch)


async def test_the_hubs_own_environment_stays_its_own(
    hub: HubProcess, new_launch: NewLaunch, monkeypatch: pytest.MonkeyPatch
) -> None:
    launch = new_launch()
    await hub.launch(launch, hub.ticket(launch))
    given = hub.session(launch)["environment"]
    secrets = [*hub.tokens.values(), *hub.values.secrets.ticket_keys, hub.values.secrets.proxy_password]
    assert not set(secrets) & set(given.values())
    assert not any(
        secret in " ".join(hub.session(launch)["arguments"]) for secret in [*secrets, given["JUPYTER_TOKEN"]]
    )
    assert given["HOME"] == str(hub.home(launch))


async def test_a_killed_hub_finds_its_servers_again(hub: HubProcess, new_launch: NewLaunch) -> None:
    """The launch is still in the state, the ticket of before is too old, and the end cleans up all the same."""
    launch, late = new_launch(), new_launch()
    await hub.launch(launch, hub.ticket(launch))
    unused, before = hub.ticket(late), hub.processes(launch)
    hub.kill()
    assert [process.pid for process in hub.processes(launch)] == [process.pid for process in before]
    await asyncio.to_thread(hub.start)
    assert hub.state(launch)[STATE_KEY] == to_wire(launch)
    await refused(hub, late, unused, TicketExpired)
    before[0].send_signal(signal.SIGKILL)
    await asyncio.to_thread(until, "the hub noticed", lambda: not hub.home(launch).exists(), 30)
    user = hub.ask("binder", "GET", f"/users/{launch.user}").json
    assert user["servers"] == {}
