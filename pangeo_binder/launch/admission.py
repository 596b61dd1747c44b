"""Admits launches: asks the policy, with what already runs taken off, and holds the seat until the hub shows it.

The hub is the truth about what runs; it is asked at most every few seconds, and between two answers the launches
admitted here count as well, so two clicks can never share one seat. Runs in the binder.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from .. import metrics
from ..model import Grant, Launch, Server
from ..policy.match import Question, admit, depends_on_provenance
from ..policy.model import Policy

STALE_SECONDS = 5.0
"""How old the hub's answer may be: a seat that came free is found within this time."""


class Lists(Protocol):
    """Whoever can list the servers: the hub."""

    async def servers(self) -> list[Server]:
        """Return every server starting or running."""


class Admission:
    """Who is in: the hub's servers, and the launches on their way there."""

    def __init__(self, policy: Policy, hub: Lists) -> None:
        self._policy = policy
        self._hub = hub
        self._running: dict[str, Launch] = {}
        self._on_their_way: dict[str, Launch] = {}
        self._handed_over: dict[str, float] = {}
        self._asked = float("-inf")
        self._lock = asyncio.Lock()

    async def take(self, question: Question, make: Callable[[Grant], Launch]) -> Seat:
        """Take a seat and return it with the launch that `make` makes of its grant; use it as a context manager.

        Raises NotAllowed or QuotaExceeded, each with the rule's reason.
        """
        async with self._lock:
            await self._refresh()
            taken = {**self._running, **self._on_their_way}
            launch = make(admit(self._policy, question, tuple(taken.values())))
            self._on_their_way[launch.id] = launch
        return Seat(self, launch)

    def depends_on_provenance(self, question: Question) -> bool:
        """Return whether the policy answers by the repository, so that its commit has to be its own."""
        return depends_on_provenance(self._policy, question)

    def handed_over(self, launch: Launch) -> None:
        """Count `launch` as a running server, until the hub is asked after this moment and says otherwise."""
        self._running[launch.id] = launch
        self._handed_over[launch.id] = time.monotonic()

    def free(self, launch: Launch) -> None:
        """Give back the seat of a launch on its way."""
        self._on_their_way.pop(launch.id, None)

    async def _refresh(self) -> None:
        if time.monotonic() - self._asked < STALE_SECONDS:
            return
        asked = time.monotonic()
        servers = await self._hub.servers()
        # the hub may have made its list before it knew of these
        self._handed_over = {id_: when for id_, when in self._handed_over.items() if when >= asked}
        kept = {id_: self._running[id_] for id_ in self._handed_over}
        self._running = {server.launch.id: server.launch for server in servers} | kept
        self._asked = asked
        metrics.SERVERS.clear()
        for tier, count in Counter(server.launch.grant.tier for server in servers).items():
            metrics.SERVERS.labels(tier).set(count)


@dataclass(frozen=True, slots=True)
class Seat:
    """A seat held for a launch on its way; leaving the block gives it back."""

    _admission: Admission
    launch: Launch

    def handed_over(self, launch: Launch) -> None:
        """Keep the seat for the server that `launch` has at the hub, though it may be ending, until the hub tells."""
        self._admission.handed_over(launch)

    def __enter__(self) -> Seat:
        return self

    def __exit__(self, *exc: object) -> None:
        self._admission.free(self.launch)
