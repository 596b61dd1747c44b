"""Conformance tests of spawners: a server starts with a good ticket alone, gets its grant, and leaves nothing.

A test of a driver subclasses `SpawnerContract` and defines the fixture `spawning`: a real hub that starts servers with
the driver.
"""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from typing import Any

import pytest

from pangeo_binder.errors import SeatLost, TicketExpired, TicketInvalid, TicketUsed
from pangeo_binder.launch.hub import Hub
from pangeo_binder.model import STATE_KEY, Launch, to_wire
from pangeo_binder.ticket import TICKET_SECONDS, server_token, sign
from tests.stack.local import Answer, request, until
from tests.stack.seats import PATH as ADMISSIONS
from tests.stack.seats import report_body, reserve

_GONE_SECONDS = 30
"""The time within which everything of an ended launch is deleted or being deleted."""


class Spawning(ABC):
    """A running hub, and the view of its servers that a test needs."""

    api: str
    """The address of the hub's API."""
    keys: list[str]
    """The keys that sign tickets."""
    binder_token: str
    gateway_token: str
    """The token of the service that reads the hub-written state."""
    secrets: tuple[str, ...]
    """The hub's own secrets."""

    @abstractmethod
    def new_launch(self) -> Launch:
        """Return a launch of a user of its own."""

    def run(self, launch: Launch) -> None:  # noqa: B027 - only some need it
        """Let the starting server run; by default it does by itself."""

    @abstractmethod
    def limits(self, launch: Launch) -> tuple[float, int]:
        """Return the cores and the bytes of memory to which the running server is limited."""

    @abstractmethod
    def variables(self, launch: Launch) -> dict[str, str]:
        """Return the environment variables of the running server, the secret ones included."""

    @abstractmethod
    def command(self, launch: Launch) -> list[str]:
        """Return the command and the arguments of the running server."""

    @abstractmethod
    def is_gone(self, launch: Launch) -> bool:
        """Whether nothing of the launch exists, or all of it is being deleted."""

    def ticket(self, launch: Launch, *, age_seconds: float = 0, keys: list[str] | None = None) -> str:
        """Return a ticket for a launch."""
        return sign(launch, keys or self.keys, time.time() - age_seconds)

    def ask(self, method: str, path: str, body: Any = None, token: str = "") -> Answer:
        """Send a request to the hub's API, as the binder unless a token is given."""
        return request(f"{self.api}{path}", method, body, Authorization=f"token {token or self.binder_token}")

    async def launch(self, launch: Launch, ticket: str, *, seat: bool = True) -> list[str]:
        """Start a server as the binder does; return the messages, or raise the binder's error."""
        hub = Hub(self.api, self.binder_token, self.keys)
        try:
            if seat:
                await reserve(hub, launch)
            return [message async for message in hub.start(launch, ticket)]
        finally:
            await hub.close()

    async def start(self, launch: Launch, ticket: str = "") -> list[str]:
        """Start a server with a good ticket, and return the messages once it runs."""
        starting = asyncio.create_task(self.launch(launch, ticket or self.ticket(launch)))
        await asyncio.to_thread(self.run, launch)
        return await starting

    def is_ready(self, launch: Launch) -> bool:
        """Whether the hub says that the launch's server runs."""
        answer = self.ask("GET", f"/users/{launch.user}/servers/")
        return answer.status == 200 and bool(answer.json["ready"])

    def servers(self, launch: Launch) -> dict[str, Any]:
        """Return the servers of the launch's user, as the hub lists them."""
        found: dict[str, Any] = self.ask("GET", f"/users/{launch.user}").json["servers"]
        return found

    async def end(self, launch: Launch) -> None:
        """Stop the launch's server, and return once nothing of the launch is left."""
        assert self.ask("DELETE", f"/users/{launch.user}/server").status in (202, 204)
        await asyncio.to_thread(until, "it is gone", lambda: self.is_gone(launch), _GONE_SECONDS)

    def state(self, launch: Launch) -> dict[str, Any]:
        """Return the hub-written state of the launch's server."""
        found: dict[str, Any] = self.ask("GET", f"/users/{launch.user}/servers/", token=self.gateway_token).json
        return dict(found["state"])


class SpawnerContract:
    """The conformance tests of spawners."""

    async def test_a_good_ticket_starts_what_it_grants_and_the_end_leaves_nothing(self, spawning: Spawning) -> None:
        launch, other = spawning.new_launch(), spawning.new_launch()
        assert "Ticket accepted, starting the server" in await spawning.start(launch)
        await spawning.start(other)
        grant = launch.grant.server
        assert spawning.limits(launch) == (grant.cpu, grant.memory_bytes)
        assert spawning.state(launch)[STATE_KEY] == to_wire(launch)
        given = spawning.variables(launch)
        assert given["JUPYTER_TOKEN"] == server_token(spawning.keys[0], launch.id)
        assert (given["PANGEO_BINDER_LAUNCH"], given["BINDER_REF"]) == (launch.id, launch.repo.revision)
        link, names = launch.link, ("LAUNCH_HOST", "REQUEST", "PERSISTENT_REQUEST", "REF_URL")
        parts = [link.host, link.request, link.persistent_request, link.ref_url]
        assert [given[f"BINDER_{name}"] for name in names] == parts
        await spawning.end(launch)
        assert not spawning.is_gone(other) and spawning.is_ready(other)
        await spawning.end(other)

    async def test_the_hubs_secrets_stay_in_the_hub(self, spawning: Spawning) -> None:
        launch = spawning.new_launch()
        await spawning.start(launch)
        given = spawning.variables(launch)
        assert spawning.secrets and not set(spawning.secrets) & set(given.values())
        command = " ".join(spawning.command(launch))
        secrets = (*spawning.secrets, given["JUPYTER_TOKEN"], given["JUPYTERHUB_API_TOKEN"])
        assert not [secret for secret in secrets if secret in command]
        await spawning.end(launch)

    async def test_a_request_without_options_starts_nothing(self, spawning: Spawning) -> None:
        launch = spawning.new_launch()
        assert spawning.ask("POST", f"/pangeo-binder/users/{launch.user}").status == 201
        spawning.ask("POST", f"/users/{launch.user}/server")
        await asyncio.to_thread(until, "the hub gave up", lambda: spawning.servers(launch) == {})
        assert spawning.is_gone(launch)

    @pytest.mark.parametrize("ticket", ["none", "forged", "changed", "another user's", "expired", "from the future"])
    async def test_a_bad_ticket_starts_nothing(self, spawning: Spawning, ticket: str) -> None:
        launch = spawning.new_launch()
        good = spawning.ticket(launch)
        bad, error = {
            "none": ("", TicketInvalid),
            "forged": (spawning.ticket(launch, keys=["a" * 64]), TicketInvalid),
            "changed": ("x.".join(good.rsplit(".", 1)), TicketInvalid),
            "another user's": (spawning.ticket(spawning.new_launch()), TicketInvalid),
            "expired": (spawning.ticket(launch, age_seconds=TICKET_SECONDS + 5), TicketExpired),
            "from the future": (spawning.ticket(launch, age_seconds=-3600), TicketExpired),
        }[ticket]
        await self.refused(spawning, launch, bad, error)

    async def test_a_good_ticket_without_a_seat_starts_nothing(self, spawning: Spawning) -> None:
        launch = spawning.new_launch()
        with pytest.raises(SeatLost):
            await spawning.launch(launch, spawning.ticket(launch), seat=False)
        assert spawning.is_gone(launch)

    async def test_a_ticket_is_good_once(self, spawning: Spawning) -> None:
        launch = spawning.new_launch()
        ticket = spawning.ticket(launch)
        await spawning.start(launch, ticket)
        await spawning.end(launch)
        await self.refused(spawning, launch, ticket, TicketUsed)

    async def test_options_other_than_the_ticket_change_nothing(self, spawning: Spawning) -> None:
        launch = spawning.new_launch()
        options = {
            "ticket": spawning.ticket(launch),
            "cmd": ["sh", "-c", "touch owned"],
            "args": ["--owned"],
            "environment": {"OWNED": "1"},
            "mem_limit": "100G",
            "cpu_limit": 100,
            "launch": {"grant": "everything"},
            "profile": "large",
            "image": "owned:1",
        }
        assert spawning.ask("POST", f"/pangeo-binder/users/{launch.user}").status == 201
        assert spawning.ask("PUT", ADMISSIONS, report_body(launch)).status == 200
        assert spawning.ask("POST", f"/users/{launch.user}/server", options).status == 202
        await asyncio.to_thread(spawning.run, launch)
        await asyncio.to_thread(until, "the server runs", lambda: spawning.is_ready(launch))
        assert not [argument for argument in spawning.command(launch) if "owned" in argument.lower()]
        assert "OWNED" not in spawning.variables(launch)
        assert spawning.limits(launch) == (launch.grant.server.cpu, launch.grant.server.memory_bytes)
        assert spawning.state(launch)[STATE_KEY] == to_wire(launch)
        await spawning.end(launch)

    @staticmethod
    async def refused(spawning: Spawning, launch: Launch, ticket: str, error: type[TicketInvalid]) -> None:
        """Check that the binder gets exactly this error, and that nothing was made for the launch."""
        with pytest.raises(TicketInvalid) as refused:
            await spawning.launch(launch, ticket)
        assert type(refused.value) is error
        assert ticket not in str(refused.value) or not ticket
        assert spawning.is_gone(launch)
