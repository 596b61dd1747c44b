"""Admits launches: asks the policy what a launch may have, and the hub for a seat; queues it while all seats are taken.

The hub decides, because it alone sees what runs and what every binder process has reserved. A seat is a reservation
there, which this process renews for as long as the launch is under way. Runs in the binder.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Protocol

from .. import metrics, trace
from ..errors import HubStarting, HubUnavailable, QuotaExceeded, UserError
from ..events import Event, Phase
from ..model import Environment, Grant, Launch, Repo
from ..names import new_launch_id, server_name, user_name
from ..policy.counters import Full, Renewal, Reservation, parts_of
from ..policy.match import Question, Terms, depends_on_provenance, gains_by_login, left_to, terms
from ..policy.model import Policy
from .hub import Renewed
from .queue import Queue

log = logging.getLogger(__name__)

POLL_SECONDS = 2.0
"""How often waiting launches report their position, and the first one asks for a seat."""
RENEW_SECONDS = 10.0
"""How often the reservations are renewed: three times before they expire."""
_RETRY_SECONDS = 2.0
"""When a renewal that failed is tried again."""
_RELEASE_SECONDS = 5.0
"""How long a binder that stops waits for the hub to take seats back."""
_STARTING_SECONDS = 60.0
"""How long a launch waits for a hub that has just started."""


class Reserves(Protocol):
    """The hub, as far as admission needs it."""

    async def reserve(self, wanted: Reservation) -> Full | None:
        """Reserve a seat, or return the limit that is full."""

    async def renew(self, renewal: Renewal) -> Renewed:
        """Keep the reservations of one part of this process's report."""

    async def release(self, launch_id: str) -> None:
        """Give a seat back."""


@dataclass(frozen=True, slots=True)
class Seat:
    """A launch that is admitted and has no environment yet."""

    id: str
    user: str
    server: str
    """The hub's server name; empty for an anonymous launch, whose user has no other server."""
    repo: Repo
    grant: Grant
    network: str
    repository: str
    """The repository, as queues and the limits of builds know it."""

    def launch(self, environment: Environment, grant: Grant) -> Launch:
        """Return the complete launch, with the `grant` that is left after the repository's own request."""
        return Launch(self.id, self.user, self.server, self.repo, environment, grant, self.network)


def repository_key(question: Question) -> str:
    """Return the repository, as queues and the limits of builds know it; a fork's commits count for themselves."""
    return f"{question.repo.key} {question.foreign_reason}".rstrip()


def _names(person: str | None, repo: Repo, launch_id: str) -> tuple[str, str]:
    """Return the hub's user and server of a launch."""
    if person is None:
        return user_name(repo.ref.name, launch_id), ""
    return person, server_name(repo.ref.name, launch_id)


class Admission:
    """The seats that launches of this process hold or wait for."""

    def __init__(self, policy: Policy, hub: Reserves, queue: Queue) -> None:
        self._policy, self._hub, self._queue = policy, hub, queue
        self._name = secrets.token_hex(8)
        self._held: dict[str, Reservation] = {}
        self._reported: float | None = None
        self.servers = 0
        """How many servers start, run or stop, as the hub last reported."""
        self._renewing: asyncio.Task[None] | None = None
        self._report_now = asyncio.Event()
        self._one_report = asyncio.Lock()
        self._releasing: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Begin to report to the hub what is held, which is nothing at first."""
        if self._renewing is None:
            renewing = self._keep_renewing()
            self._renewing = asyncio.create_task(renewing, name="renewal of reservations", context=trace.shared())

    async def close(self) -> None:
        """Stop reporting, and let what is being released end, within a bound; the rest expires."""
        if self._renewing is not None:
            self._renewing.cancel()
        if self._releasing:
            await asyncio.wait(self._releasing, timeout=_RELEASE_SECONDS)

    @property
    def report_age_seconds(self) -> float | None:
        """How long ago the hub accepted this binder's last report; None if it has accepted none."""
        return None if self._reported is None else time.monotonic() - self._reported

    @property
    def total_servers(self) -> int | None:
        """How many servers the policy allows in total; None without a limit."""
        return self._policy.total.servers

    def depends_on_provenance(self, question: Question) -> bool:
        """Return whether the policy answers by the repository, so that its commit has to be its own."""
        return depends_on_provenance(self._policy, question)

    def gains_by_login(self, question: Question) -> bool:
        """Return whether somebody without a login might get another answer with one."""
        return gains_by_login(self._policy, question)

    def seats_of(self, person: str, launches: Sequence[Launch]) -> list[str]:
        """Return sentences on what the limits leave to a person with the running `launches`."""
        return left_to(self._policy, person, launches)

    def check(self, question: Question) -> Grant:
        """Return what a launch would be granted, without a seat. Raises NotAllowed if a rule denies it."""
        return terms(self._policy, question).grant

    async def admit(self, repo: Repo, question: Question) -> AsyncGenerator[Event | Seat, None]:
        """Yield what the launch waits for, last the Seat; closing this gives the seat back.

        Raises NotAllowed, QuotaExceeded once it has waited long enough, HubUnavailable.
        """
        self.start()
        asked, id_ = terms(self._policy, question), new_launch_id()
        wanted = Reservation(id_, asked.takes, asked.limits)
        key = repository_key(question)
        try:
            async with aclosing(self._wait(key, wanted, asked)) as waiting:
                async for event in waiting:
                    yield event
            user, server = _names(question.user, repo, id_)
            yield Seat(id_, user, server, repo, asked.grant, question.network, key)
        finally:
            self._give_back(id_)

    async def _wait(self, key: str, wanted: Reservation, asked: Terms) -> AsyncGenerator[Event, None]:
        """Yield events until the seat is taken."""
        refused: UserError | None = QuotaExceeded(
            "Others are waiting for a seat for this repository.", "Try again in a few minutes."
        )
        if not self._queue.has_waiters(key):
            # a hundred clicks at once have a seat each: only a launch that found none joins the queue
            refused = await self._take(wanted, asked)
            deadline = time.monotonic() + _STARTING_SECONDS
            while isinstance(refused, HubStarting) and time.monotonic() < deadline:
                yield Event(Phase.WAITING, f"{refused.message}\n")
                await asyncio.sleep(POLL_SECONDS)
                refused = await self._take(wanted, asked)
        deadline = time.monotonic() + self._queue.seconds
        if refused is None:
            return
        with self._queue.join(key) as entry:
            while time.monotonic() < deadline:
                message = f"{refused.message} You are number {entry.position} in the queue.\n"
                yield Event(Phase.WAITING, message, position=entry.position)
                await asyncio.sleep(POLL_SECONDS)
                if entry.position == 1:
                    answer = await self._take(wanted, asked)
                    if answer is None:
                        return
                    refused = answer
        raise refused

    async def _take(self, wanted: Reservation, asked: Terms) -> UserError | None:
        """Ask for the seat once; return why there is none: a limit is full, or the hub has just started."""
        try:
            full = await self._hub.reserve(wanted)
        except HubStarting as error:
            self._report_now.set()
            return error
        except BaseException:
            self._release(wanted.launch)  # the hub may have made the reservation all the same
            raise
        if full is not None:
            return asked.refusal(full)
        self._held[wanted.launch] = wanted
        return None

    def _give_back(self, launch_id: str) -> None:
        if self._held.pop(launch_id, None) is not None:
            self._release(launch_id)

    def _release(self, launch_id: str) -> None:
        """Release a reservation in the background; if that fails, it expires."""
        task = asyncio.create_task(self._release_after_report(launch_id))
        self._releasing.add(task)
        task.add_done_callback(self._released)

    async def _release_after_report(self, launch_id: str) -> None:
        # a report on its way may still hold the seat, and would reserve it again after the release
        async with self._one_report:
            pass
        await self._hub.release(launch_id)

    def _released(self, task: asyncio.Task[None]) -> None:
        self._releasing.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.warning("A seat was left to expire: %s", type(task.exception()).__name__)

    async def _keep_renewing(self) -> None:
        while True:
            self._report_now.clear()
            seconds = RENEW_SECONDS
            try:
                await self._renew()
            except HubUnavailable:
                seconds = _RETRY_SECONDS
            try:
                async with asyncio.timeout(seconds):
                    await self._report_now.wait()
            except TimeoutError:
                continue

    async def _renew(self) -> None:
        lost: list[str] = []
        async with self._one_report:
            for part in parts_of(self._name, tuple(self._held.values())):
                answer = await self._hub.renew(part)
                lost += (id_ for id_ in answer.lost if id_ in self._held)
        if lost:
            log.warning("Launches without a seat, because the hub had no report of them in time: %s", " ".join(lost))
        self._reported, self.servers = time.monotonic(), sum(answer.servers.values())
        metrics.SERVERS.clear()
        for tier, count in answer.servers.items():
            metrics.SERVERS.labels(tier).set(count)
