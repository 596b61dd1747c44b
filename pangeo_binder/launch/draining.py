"""Ends the launches of a binder that stops: those whose server starts are finished, the others continue elsewhere.

A launch that still waits or builds is ended without a last event, so that its page connects again: to another replica,
or to this binder once it is back. Runs in the binder. Not for refusing new launches, which `web` does.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass

from ..events import Event, Phase
from ..model import Click

_LEAVE_SECONDS = 5
"""How long ended launches get to give back what they hold."""
_RESTARTS = "This service restarts. The launch continues when it is back.\n"


@dataclass(slots=True, eq=False)
class _Launch:
    """One launch that somebody follows."""

    task: asyncio.Task[None]
    starts: bool = False
    """Whether its server is starting."""
    ended_by_us: bool = False

    def end(self) -> None:
        self.ended_by_us = True
        self.task.cancel()


class Draining:
    """The launches of this process that run now."""

    def __init__(self, launch: Callable[[Click], AsyncGenerator[Event, None]]) -> None:
        self._launch = launch
        self._running: set[_Launch] = set()
        self._changed = asyncio.Event()
        self.begun = False
        """Whether the binder is stopping, and starts no more launches."""

    async def run(self, click: Click) -> AsyncGenerator[Event, None]:
        """Yield the events of a launch. When the binder stops, this is cancelled, as if the client had left."""
        task = asyncio.current_task()
        assert task is not None
        mine = _Launch(task)
        self._running.add(mine)
        try:
            async with aclosing(self._launch(click)) as events:
                async for event in events:
                    mine.starts = event.phase is Phase.LAUNCHING
                    yield event
        except asyncio.CancelledError:
            if mine.ended_by_us:
                task.uncancel()
                yield Event(Phase.WAITING, _RESTARTS)
                task.cancel()
            raise
        finally:
            self._running.discard(mine)
            self._changed.set()

    async def drain(self, seconds: float) -> None:
        """End all launches but those whose server starts; these have `seconds`. Return when none is left."""
        self.begun = True
        self._end(lambda launch: not launch.starts)
        await self._none_left(seconds)
        self._end(lambda launch: True)
        await self._none_left(_LEAVE_SECONDS)

    def _end(self, which: Callable[[_Launch], bool]) -> None:
        for launch in filter(which, tuple(self._running)):
            launch.end()

    async def _none_left(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                while self._running:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return
