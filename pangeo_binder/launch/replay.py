"""The log of one build for all who follow it, each from its first line; of a long one the first and the last lines.

Runs in the binder, on its event loop.
"""

from __future__ import annotations

import asyncio
from collections import deque
from itertools import islice
from typing import Final

from ..events import Event, Phase

REPLAY_LINES = 10_000
"""The lines of a log that are kept for late followers: half from its start, half from its end."""

_PAUSE_SECONDS: Final = 0.05
"""How often lines wake the followers at most: each time costs every follower a write, however many lines there are."""


class Replay:
    """Append-only log shared by followers; keeps the first and last `keep`/2 events."""

    def __init__(self, keep: int = REPLAY_LINES) -> None:
        self._head: list[Event] = []
        self._head_size = keep // 2
        self._tail = deque[Event](maxlen=keep - keep // 2)
        self._total = 0
        self._grown = asyncio.Event()
        self._pauses = False

    def add(self, event: Event) -> None:
        """Append `event` and wake all followers, now or after the pause since another event woke them."""
        (self._head if len(self._head) < self._head_size else self._tail).append(event)
        self._total += 1
        if not self._pauses:
            self._wake_and_pause()

    def _wake_and_pause(self) -> None:
        self.wake()
        self._pauses = True
        asyncio.get_running_loop().call_later(_PAUSE_SECONDS, self._after_pause, self._total)

    def _after_pause(self, woken_at: int) -> None:
        self._pauses = False
        if self._total > woken_at:
            self._wake_and_pause()

    def wake(self) -> None:
        """Wake all followers now; each reads the log again."""
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
