"""The log of one build for all who follow it, each from its first line; of a long one the first and the last lines.

Runs in the binder, on its event loop.
"""

from __future__ import annotations

import asyncio
from collections import deque
from itertools import islice

from ..events import Event, Phase

REPLAY_LINES = 10_000
"""The lines of a log that are kept for late followers: half from its start, half from its end."""


class Replay:
    """Append-only log shared by followers; keeps the first and last `keep`/2 events."""

    def __init__(self, keep: int = REPLAY_LINES) -> None:
        self._head: list[Event] = []
        self._head_size = keep // 2
        self._tail = deque[Event](maxlen=keep - keep // 2)
        self._total = 0
        self._grown = asyncio.Event()

    def add(self, event: Event) -> None:
        """Append `event` and wake all followers."""
        (self._head if len(self._head) < self._head_size else self._tail).append(event)
        self._total += 1
        self.wake()

    def wake(self) -> None:
        """Wake all followers; each reads the log again."""
        self._grown.set()
        self._grown = asyncio.Event()

    async def grown(self, position: int) -> None:
        """Return when the log has events beyond `position`, or when woken."""
        if position >= self._total:
            await self._grown.wait()

    def since(self, position: int) -> tuple[list[Event], int]:
        """Return the events from `position` on, with a line that counts the dropped ones, and the next position."""
        found = self._head[position:]
        first = self._total - len(self._tail)  # the position of the tail's first event
        start = max(position, len(self._head))
        if start < first:
            left_out = f"... {first - start} lines are left out here ...\n"
            found.append(Event(Phase.BUILDING, left_out))
        newest_first = islice(reversed(self._tail), self._total - max(start, first))  # a deque is slow from its middle
        found.extend(reversed(list(newest_first)))
        return found, self._total
