"""A local server starts with a good ticket only, gets what the ticket grants, and outlives its hub."""

from __future__ import annotations

import asyncio
import signal

import pytest

from pangeo_binder.errors import TicketExpired
from pangeo_binder.hub.roles import GATEWAY
from pangeo_binder.model import STATE_KEY, Launch, to_wire
from tests.contracts.spawner import SpawnerContract, Spawning
from tests.hub.hubprocess import HubProcess, NewLaunch
from tests.stack.local import request, until

pytestmark = pytest.mark.timeout(300)


class LocalSpawning(Spawning):
    """A hub whose servers are processes of this machine."""

    def __init__(self, hub: HubProcess, new_launch: NewLaunch) -> None:
        self.hub, self.make_launch = hub, new_launch
        secrets = hub.values.secrets
        self.api, self.keys = hub.values.hub_api, secrets.ticket_keys
        self.binder_token, self.gateway_token = hub.tokens["binder"], hub.tokens[GATEWAY]
        self.secrets = (*hub.tokens.values(), *secrets.ticket_keys, secrets.proxy_password)

    def new_launch(self) -> Launch:
        return self.make_launch()

    def limits(self, launch: Launch) -> tuple[float, int]:
        given = self.variables(launch)
        return float(given["CPU_LIMIT"]), int(given["MEM_LIMIT"])

    def variables(self, launch: Launch) -> dict[str, str]:
        return dict(self.hub.session(launch)["environment"])

    def command(self, launch: Launch) -> list[str]:
        return list(self.hub.session(launch)["arguments"])

    def is_gone(self, launch: Launch) -> bool:
        return not self.hub.processes(launch) and not self.hub.home(launch).exists()


class TestLocalLaunchSpawner(SpawnerContract):
    """Servers as local processes."""

    @pytest.fixture
    def spawning(self, hub: HubProcess, new_launch: NewLaunch) -> LocalSpawning:
        return LocalSpawning(hub, new_launch)


async def test_a_server_has_its_files_and_answers_its_own_token(hub: HubProcess, new_launch: NewLaunch) -> None:
    launch = new_launch()
    await hub.launch(launch, hub.ticket(launch))
    given = hub.session(launch)["environment"]
    assert given["HOME"] == str(hub.home(launch))
    assert (hub.home(launch) / "README.md").read_text() == "Sea\n"
    url = f"{hub.values.public_url}user/{launch.user}/"
    assert request(url, Authorization=f"token {given['JUPYTER_TOKEN']}").json["environment"]["BINDER_REF"] == "a" * 40
    assert request(url).json == {}


async def test_a_killed_hub_finds_its_servers_again(hub: HubProcess, new_launch: NewLaunch) -> None:
    """The state still holds the launch, tickets from before are too old, and the end cleans up as ever."""
    launch, late = new_launch(), new_launch()
    await hub.launch(launch, hub.ticket(launch))
    unused, before = hub.ticket(late), hub.processes(launch)
    hub.kill()
    assert [process.pid for process in hub.processes(launch)] == [process.pid for process in before]
    await asyncio.to_thread(hub.start)
    assert hub.state(launch)[STATE_KEY] == to_wire(launch)
    with pytest.raises(TicketExpired):
        await hub.launch(late, unused)
    before[0].send_signal(signal.SIGKILL)
    await asyncio.to_thread(until, "the hub noticed", lambda: not hub.home(launch).exists(), 30)
    user = hub.ask("binder", "GET", f"/users/{launch.user}").json
    assert user["servers"] == {}
