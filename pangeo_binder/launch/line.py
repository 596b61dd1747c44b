"""The line to wait in when all places are taken: first come, first served, among launches of the same repository.

Launches of other repositories have lines of their own, so a full workshop does not hold up everybody. Runs in the
binder; a launch that leaves its page leaves its line.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

LOOK_SECONDS = 2.0
"""How often those in line are told their place, and the first looks for one that came free."""


@dataclass(frozen=True, slots=True)
class Spot:
    """Somebody's spot in a line."""

    _line: list[object]
    _self: object

    @property
    def place(self) -> int:
        """The place now, from 1: it falls as others are let in or leave."""
        return self._line.index(self._self) + 1


class Line:
    """All lines, by repository."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        """How long somebody may stand in line; 0 refuses at once."""
        self._lines: defaultdict[str, list[object]] = defaultdict(list)

    def forms(self, key: str) -> bool:
        """Return whether somebody stands in the line for `key`."""
        return key in self._lines

    @contextmanager
    def join(self, key: str) -> Iterator[Spot]:
        """Stand at the end of the line for `key` until the block is left."""
        line, me = self._lines[key], object()
        line.append(me)
        try:
            yield Spot(line, me)
        finally:
            line.remove(me)
            if not line:
                del self._lines[key]
