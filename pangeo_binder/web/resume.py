"""Launches that continue for a while without a connection, so that a client that lost its own resumes its launch.

Each launch runs in a task. A connection reads its events, and each event has an id that nobody can guess, since the
last event holds the session's token. A client sends the last id that it read (`Last-Event-ID`, as EventSource does)
and gets the events after it. Not for what a launch does (`launch.pipeline`), nor who may start one. Binder process.

Format of ids: https://html.spec.whatwg.org/multipage/server-sent-events.html#the-last-event-id-header
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from ..events import Event, failed
from .failure import to_user_error

log = logging.getLogger("pangeo_binder.web")

_KEY_BYTES: Final = 24
_ID = re.compile(r"([A-Za-z0-9_-]{32})\.([0-9]{1,9})")
_KEPT: Final = 500
"""The newest events of a launch that are kept for a client that comes back; a line has at most 4,096 characters."""
_KEPT_ENDED: Final = 100
_AHEAD: Final = 100
"""How many events a launch may be ahead of its reader; fewer than are kept, so that a reader loses none."""
_AT_ONCE: Final = 100
"""How many events a reader gets at once."""


@dataclass(frozen=True, slots=True)
class ResumeLimits:
    """How long launches wait for a client that was lost, and how many of them."""

    grace_seconds: float = 30
    """How long a launch continues without a connection."""
    closed_seconds: float = 5
    """How long it continues once its client said that it leaves; a page that is reloaded says so too."""
    ended_seconds: float = 120
    """How long the last events of a launch that ended can be read again."""
    waiting: int = 500
    """How many launches continue without a connection; above it the one that waited longest ends."""
    waiting_of_network: int = 100
    ended: int = 500
    """How many launches that ended are kept; above it the oldest is forgotten."""


class Followed:
    """One launch: its newest events, its task, and the connection that reads it."""

    def __init__(self, link: str, network: str) -> None:
        self.key = secrets.token_urlsafe(_KEY_BYTES)
        self.link, self.network = link, network
        self.task: asyncio.Task[None] | None = None
        self.reader: object | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.joins, self.joined_at = 0, 0.0
        """How many connections have read it, and when the newest began, on the loop's clock."""
        self.leaving = False
        """Whether its client has said that it leaves."""
        self.arrived = False
        """Whether a connection has got the last event."""
        self.ended = False
        """Whether there is a last event."""
        self._events: list[Event] = []  # an empty deque takes 0.7 kB
        self.total = self._read = 0
        self._launch_waits: asyncio.Future[None] | None = None
        self._reader_waits: asyncio.Future[None] | None = None
        """Only the newest reader waits: each that joins wakes the one before it."""

    def add(self, event: Event) -> None:
        """Append `event`; none after the last one is kept."""
        if not self.ended:
            self._events.append(event)
            del self._events[:-_KEPT]
            self.total += 1
            self.ended = event.ends
            _wake(self._reader_waits)

    def since(self, position: int) -> list[tuple[int, Event]]:
        """Return the next numbered events after number `position`, the last one alone: it is sent after all others.

        Of a launch that ended, there is always the last one.
        """
        first = self.total - len(self._events) + 1
        start = max(first, min(position, self.total - self.ended) + 1)
        end = min(start + _AT_ONCE, self.total + (not self.ended or start == self.total))
        found = list(enumerate(self._events[start - first : end - first], start))
        if found and position + 1 < first:
            left_out = f"... {first - position - 1} lines are left out here ...\n"
            found.insert(0, (first - 1, Event(found[0][1].phase, left_out)))
        return found

    def shorten(self) -> None:
        """Keep only the last events, of a launch that has ended."""
        del self._events[:-_KEPT_ENDED]

    def wake(self) -> None:
        """Wake the launch and its reader; each looks again."""
        _wake(self._launch_waits)
        _wake(self._reader_waits)

    def arrive(self) -> None:
        """Record that a connection gets the last event."""
        self.arrived = True
        _wake(self._launch_waits)

    def read_to(self, position: int) -> None:
        """Record that the reader has the events up to number `position`."""
        self._read = position
        _wake(self._launch_waits)

    async def grown(self, position: int) -> None:
        """Return when there may be events after number `position`."""
        if position >= self.total:
            self._reader_waits = asyncio.get_running_loop().create_future()
            await self._reader_waits

    async def room(self) -> None:
        """Return when the reader has kept up, or is gone; after the last event, when that has arrived."""
        while self._is_ahead:
            self._launch_waits = asyncio.get_running_loop().create_future()
            await self._launch_waits

    @property
    def _is_ahead(self) -> bool:
        if self.ended:
            return not self.arrived
        return self.reader is not None and self.total - self._read >= _AHEAD

    def stop_timer(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


class Launches:
    """All launches of this process that are read, or may be resumed."""

    def __init__(self, limits: ResumeLimits) -> None:
        self._limits = limits
        self._known: dict[str, Followed] = {}
        self._waiting: dict[str, Followed] = {}
        self._ended: dict[str, Followed] = {}

    def find(self, event_id: str, link: str) -> tuple[Followed, int] | None:
        """Return the launch of an event's id, and the event's number, if it is a launch of `link`."""
        parts = _ID.fullmatch(event_id)
        followed = self._known.get(parts[1]) if parts else None
        if parts is None or followed is None or followed.link != link:
            return None
        return followed, min(int(parts[2]), followed.total)

    def start(self, link: str, network: str, events: AsyncGenerator[Event, None], doing: str) -> Followed:
        """Start a launch of `link` that yields `events`. `doing` describes the request in the log, without secrets."""
        followed = Followed(link, network)
        followed.task = asyncio.create_task(_run(followed, events, doing), name=f"launch of {link}"[:200])
        followed.task.add_done_callback(lambda task: self._end(followed))
        self._known[followed.key] = followed
        return followed

    async def follow(self, followed: Followed, position: int) -> AsyncGenerator[list[tuple[str, Event]], None]:
        """Yield the events after number `position` with their ids, all that are ready at a time, the last one alone.

        The newest reader takes over.
        """
        me = object()
        self._join(followed, me)
        followed.read_to(position)
        try:
            while followed.reader is me:
                if events := followed.since(position):
                    position, newest = events[-1]
                    if newest.ends:  # now, because a client that has it may close the connection at once
                        followed.arrive()
                    yield [(f"{followed.key}.{number}", event) for number, event in events]
                    if newest.ends or followed.reader is not me:
                        return
                    followed.read_to(position)
                    if position < followed.total:  # a reader that joins late must not keep the loop from others
                        await asyncio.sleep(0)
                elif followed.task is None or followed.task.done():
                    return  # it was ended without a last event
                else:
                    await followed.grown(position)
        finally:
            if followed.reader is me:
                self._leave(followed)

    def abandon(self, event_id: str, link: str) -> None:
        """End the launch of an event's id soon, unless its last event has arrived or a client resumes it."""
        if found := self.find(event_id, link):
            followed = found[0]
            since = asyncio.get_running_loop().time() - followed.joined_at
            if followed.joins > 1 and since < self._limits.closed_seconds:
                return  # a reloaded page may have come back before this message of the page that it was
            followed.leaving = True
            self._wait(followed)

    def _join(self, followed: Followed, reader: object) -> None:
        followed.reader = reader
        followed.joins += 1
        followed.joined_at = asyncio.get_running_loop().time()
        followed.leaving = False
        followed.stop_timer()
        self._waiting.pop(followed.key, None)
        followed.wake()

    def _leave(self, followed: Followed) -> None:
        followed.reader = None
        followed.wake()
        if followed.task is None or followed.task.done() or followed.arrived:
            return
        self._waiting[followed.key] = followed
        self._wait(followed)
        networks = Counter(waiting.network for waiting in self._waiting.values())
        full = networks[followed.network] > self._limits.waiting_of_network
        if full or len(self._waiting) > self._limits.waiting:
            of = followed.network if full else None
            _cancel(next(waiting for waiting in self._waiting.values() if of in (None, waiting.network)))

    def _wait(self, followed: Followed) -> None:
        """End a launch after the time that it may continue without a client."""
        if followed.task is None or followed.task.done():
            return  # its events have a timer of their own
        followed.stop_timer()
        seconds = self._limits.closed_seconds if followed.leaving else self._limits.grace_seconds
        followed.timer = asyncio.get_running_loop().call_later(seconds, _cancel, followed)

    def _end(self, followed: Followed) -> None:
        """Keep the last events of a launch for a while; forget one that was ended before they arrived."""
        followed.stop_timer()
        followed.wake()
        self._waiting.pop(followed.key, None)
        if not followed.ended or followed.task is None or followed.task.cancelled():
            self._forget(followed.key)
            return
        followed.shorten()
        self._ended[followed.key] = followed
        loop = asyncio.get_running_loop()
        followed.timer = loop.call_later(self._limits.ended_seconds, self._forget, followed.key)
        if len(self._ended) > self._limits.ended:
            self._forget(next(iter(self._ended)))

    def _forget(self, key: str) -> None:
        self._ended.pop(key, None)
        if followed := self._known.pop(key, None):
            followed.stop_timer()


def _cancel(followed: Followed) -> None:
    if followed.task is not None and not followed.arrived:
        followed.task.cancel()


def _wake(waits: asyncio.Future[None] | None) -> None:
    if waits is not None and not waits.done():
        waits.set_result(None)


async def _run(followed: Followed, events: AsyncGenerator[Event, None], doing: str) -> None:
    """Run a launch to its last event, and until that has arrived."""
    try:
        async with aclosing(events):
            async for event in events:
                followed.add(event)
                await followed.room()  # closed at its last event, a launch stops its server: nobody has got the token
        if not followed.ended:
            raise RuntimeError("the launch ended without a final event")
    except Exception as error:  # the waiting user must see every failure
        followed.add(failed(to_user_error(error, doing)))
