"""Bounds how many connections a server keeps open, in total and from one address, and refuses the newest above.

A connection costs a file descriptor and memory before it sends a byte, and a process without descriptors fails for
all. Used by binder, gateway and storage; not for what one request may do. The time limit of an idle connection is the
server's own setting.
"""

from __future__ import annotations

import asyncio
import logging
import resource
import time
from collections import Counter
from typing import Any

from aiohttp import web

log = logging.getLogger(__name__)

IDLE_SECONDS = 120
"""How long a connection may be open without a request; longer than proxies keep idle connections (90 s)."""

_SENTENCE = b"Too many connections to this service are open. Try again in a minute.\n"
REFUSAL = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\nRetry-After: 60\r\n"
    b"Connection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(_SENTENCE), _SENTENCE)
)
"""What a refused client gets, before it has sent a request."""

RESERVED = 64
"""Connections of others that remain while one address, such as the proxy's, has all it may have: probes and metrics."""
_WARN_SECONDS = 60


class Connections:
    """The number of open connections: at most `most` and RESERVED, `per_address` (or `most`) from one address.

    A process that may open few files accepts fewer: half of its files are left for everything else.
    """

    def __init__(self, most: int, per_address: int = 0) -> None:
        most = min(most, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2)
        self._most, self._per_address = most + RESERVED, per_address or most
        self._open: Counter[str] = Counter()
        self._warned = -float(_WARN_SECONDS)

    def add(self, address: str) -> bool:
        """Count a new connection; return False if it has to be refused."""
        if self._open.total() >= self._most or self._open[address] >= self._per_address:
            self._warn()
            return False
        self._open[address] += 1
        return True

    def remove(self, address: str) -> None:
        """Forget a connection that was counted and is closed."""
        self._open[address] -= 1
        if not self._open[address]:
            del self._open[address]

    def _warn(self) -> None:
        now = time.monotonic()
        if now - self._warned >= _WARN_SECONDS:
            self._warned = now
            log.warning("New connections are refused: %d are open", self._open.total())


def limit_connections(server: web.Server | None, connections: Connections) -> None:
    """Have aiohttp's `server` refuse connections above the limits.

    `web.AppRunner` makes its server itself, so its methods are wrapped and no subclass is given to it.
    """
    assert server is not None
    made, lost = server.connection_made, server.connection_lost
    counted: dict[web.RequestHandler, str] = {}

    def connection_made(handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        made(handler, transport)
        address = _address(transport)
        if connections.add(address):
            counted[handler] = address
        else:
            transport.write(REFUSAL)
            handler.force_close()

    def connection_lost(handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        if handler in counted:
            connections.remove(counted.pop(handler))
        lost(handler, exc)

    server.connection_made = connection_made  # type: ignore[method-assign]
    server.connection_lost = connection_lost  # type: ignore[method-assign]


def _address(transport: asyncio.Transport) -> str:
    peer: Any = transport.get_extra_info("peername")
    return str(peer[0]) if peer else ""
