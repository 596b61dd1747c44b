"""Reads each line of a container's log once, although connections break. Pure.

Lines have the time stamps of the container runtime, which Kubernetes adds on request.
"""

from __future__ import annotations

import re
import time
from datetime import datetime

from ...command import STREAM_BYTES, STREAM_LINES, LineSplitter

_STAMP = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d) ?")
_SKEW_SECONDS = 300
"""How much the clocks of nodes and of this process may differ."""
_REST_BYTES = 1 << 16


class LogCursor:
    """How far one container's log was read; `begin` each new connection, then `feed` its chunks."""

    def __init__(self) -> None:
        self._last = 0  # nanoseconds since the epoch
        self._seen = 0  # lines of that moment
        self._skip = 0
        self._catching_up = False
        self._rest = b""
        self._bytes = self._lines = 0

    @property
    def exhausted(self) -> bool:
        """Whether the log has more bytes or lines than are read of one command."""
        return self._bytes > STREAM_BYTES or self._lines > STREAM_LINES

    @property
    def since_seconds(self) -> int | None:
        """How many seconds of the log the next connection needs; None for the whole log."""
        return max(1, int(time.time() - self._last / 1e9)) + _SKEW_SECONDS if self._last else None

    def begin(self) -> None:
        """Forget a partial line: the new connection sends it again."""
        self._rest, self._skip, self._catching_up = b"", self._seen, bool(self._last)

    def feed(self, chunk: bytes) -> list[str]:
        """Return the complete new lines of `chunk`, without control characters."""
        *whole, rest = (self._rest + chunk).split(b"\n")
        self._rest = rest[:_REST_BYTES]  # a line without end must not grow in memory
        return [line for raw in whole for line in self._new(raw)]

    def _new(self, raw: bytes) -> list[str]:
        found = _STAMP.match(raw)
        moment = _nanoseconds(found) if found else self._last
        if self._catching_up and found:
            if moment < self._last:
                return []
            if moment == self._last and self._skip > 0:
                self._skip -= 1
                return []
            self._catching_up = moment == self._last
        self._seen = self._seen + 1 if moment == self._last else 1
        self._last = moment
        self._lines += 1
        self._bytes += len(raw)
        return LineSplitter().feed((raw[found.end() :] if found else raw) + b"\n")


def _nanoseconds(found: re.Match[bytes]) -> int:
    try:
        second = datetime.fromisoformat((found[1] + found[3]).decode())
    except ValueError:
        return 0
    return int(second.timestamp()) * 10**9 + int((found[2] or b"0").ljust(9, b"0"))
