"""The ways to a running server: through the binder, on the hub's own API with a ticket made in advance, and on the API
of a JupyterHub that has no code of ours.

All follow as their users do: the binder's event stream, and the hub's progress stream. None shares code with the
product, so that the cost of the product's own client counts as the product's.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import quote

import aiohttp

from pangeo_binder.model import Environment, RepoRef

from .plainhub import PlainHub
from .repositories import STEP
from .stack import MeasuredStack

_TIMEOUT = aiohttp.ClientTimeout(total=300)


@dataclass(slots=True)
class Run:
    """One launch: the time of each phase's first event, in seconds after the click."""

    seconds: float = 0.0
    """Until the server was ready."""
    phases: dict[str, float] = field(default_factory=dict)
    events: int = 0
    steps: int = 0
    """How many of them are lines that a build of `repositories.files` prints."""
    user: str = ""
    plain: bool = False
    """Whether it runs at the unmodified JupyterHub."""


class LaunchError(Exception):
    """A launch that failed; the measurement is then not valid."""


class Clients:
    """Launches in all ways, and stops the launched servers."""

    def __init__(self, stack: MeasuredStack, plain: PlainHub | None, session: aiohttp.ClientSession) -> None:
        self._stack = stack
        self.plain = plain
        self._session = session
        self._hub = stack.values.hub_api
        self._headers = {"Authorization": f"token {stack.binder_token}"}

    async def through_binder(
        self, ref: RepoRef, until: str = "ready", run: Run | None = None, network: str = ""
    ) -> Run:
        """Launch as a launch page does, and leave at the phase `until`.

        `run` shows how far it is; `network` is an address that the proxy would have seen.
        """
        url = f"{self._stack.binder_url}build/{ref.provider}/{quote(ref.url, safe='')}/{ref.ref}"
        run, started = run or Run(), time.perf_counter()
        headers = {"Accept": "text/event-stream", **self._stack.login}
        if network:
            headers["X-Forwarded-For"] = network
        async with self._session.get(url, headers=headers) as stream:
            async for line in stream.content:
                if not line.startswith(b"data:"):
                    continue
                event = json.loads(line[5:])
                run.events += 1
                run.steps += event["message"].startswith(STEP)
                run.phases.setdefault(event["phase"], time.perf_counter() - started)
                if event["phase"] == "failed":
                    raise LaunchError(event["message"])
                if event["phase"] == until:
                    break
        run.seconds = run.phases[until]
        run.user = event.get("url", "").rstrip("/").rpartition("/")[2]
        return run

    async def at_hub(self, ref: RepoRef, environment: Environment) -> Run:
        """Start the same server on the hub's API."""
        launch, ticket = self._stack.ticket(ref, environment)
        seat = {"launch": launch.id, "takes": {}, "limits": []}
        report = {"binder": "benchmark", "reservations": [seat]}
        admissions = f"{self._hub}/pangeo-binder/admissions"
        async with self._session.put(admissions, json=report, headers=self._headers, raise_for_status=True):
            pass  # the hub starts no server for a launch without a seat
        return await self._start(Run(user=launch.user), {"ticket": ticket})

    async def at_plain_hub(self) -> Run:
        """Start the same server at the unmodified JupyterHub."""
        return await self._start(Run(user=f"plain-{secrets.token_hex(6)}", plain=True), {})

    def _api(self, run: Run) -> tuple[str, dict[str, str]]:
        """Return the address of the run's user at its hub, and the headers of requests."""
        if not run.plain:
            return f"{self._hub}/users/{run.user}", self._headers
        assert self.plain is not None
        return f"{self.plain.api}/users/{run.user}", self.plain.headers

    async def _start(self, run: Run, options: dict[str, str]) -> Run:
        (user, headers), started = self._api(run), time.perf_counter()
        made = user if run.plain else user.replace("/users/", "/pangeo-binder/users/")
        async with self._session.post(made, headers=headers, raise_for_status=True):
            run.phases["user"] = time.perf_counter() - started
        async with self._session.post(f"{user}/server", json=options, headers=headers) as response:
            if response.status not in (201, 202):
                raise LaunchError(await response.text())
            run.phases["asked"] = time.perf_counter() - started
        await self._follow(f"{user}/server/progress", headers)
        run.seconds = run.phases["ready"] = time.perf_counter() - started
        return run

    async def _follow(self, url: str, headers: dict[str, str]) -> None:
        async with self._session.get(url, headers=headers, raise_for_status=True) as stream:
            async for line in stream.content:
                event = json.loads(line[5:]) if line.startswith(b"data:") else {}
                if event.get("failed"):
                    raise LaunchError(event.get("message", ""))
                if event.get("ready"):
                    return
        raise LaunchError("the hub's progress stream ended early")

    async def end(self, run: Run) -> None:
        """Stop a launch's server."""
        user, headers = self._api(run)
        async with self._session.delete(f"{user}/server", headers=headers) as response:
            if response.status not in (202, 204, 404):
                raise LaunchError(f"a server could not be stopped: {response.status}")


@asynccontextmanager
async def clients(stack: MeasuredStack, plain: PlainHub | None = None) -> AsyncIterator[Clients]:
    """Yield clients with an unlimited number of connections."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=_TIMEOUT) as session:
        yield Clients(stack, plain, session)
