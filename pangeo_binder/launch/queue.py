"""The queue for launches that found all seats taken: first come, first served, among launches of the same repository.

Launches of other repositories have queues of their own, so a full workshop does not hold up everybody. Each binder
process has its own queues. A launch whose page is closed leaves its queue. Runs in the binder.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Entry:
    """One launch's entry in a queue."""

    _queue: list[object]
    _self: object

    @property
    def position(self) -> int:
        """The position now, from 1; it falls as launches before it are admitted or leave."""
        return self._queue.index(self._self) + 1


class Queue:
    """The queues of this process, by repository."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        """How long a launch may wait in a queue; 0 refuses at once."""
        self._queues: defaultdict[str, list[object]] = defaultdict(list)

    def has_waiters(self, key: str) -> bool:
        """Return whether a launch waits in the queue for `key`."""
        return key in self._queues

    @contextmanager
    def join(self, key: str) -> Iterator[Entry]:
        """Wait at the end of the queue for `key` until the block is left."""
        queue, me = self._queues[key], object()
        queue.append(me)
        try:
            yield Entry(queue, me)
        finally:
            queue.remove(me)
            if not queue:
                del self._queues[key]
