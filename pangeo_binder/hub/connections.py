"""The hub's HTTP connections to the services that provision launches: one pool for each client, made when first used.

Runs in the hub. A service that hangs holds up nobody for longer than 20 seconds.
"""

from __future__ import annotations

import aiohttp

_SERVICE_TIMEOUT = aiohttp.ClientTimeout(total=20)


class Connections:
    """A pool of connections that outlives no event loop it was not made for."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    @property
    def http(self) -> aiohttp.ClientSession:
        """The session to make requests with."""
        if self._session is None or self._session.closed:
            # no limit on connections: a hundred launches at once must not queue behind one slow service
            connector = aiohttp.TCPConnector(limit=0)
            self._session = aiohttp.ClientSession(timeout=_SERVICE_TIMEOUT, connector=connector)
        return self._session

    async def close(self) -> None:
        """Close what is open; the next request opens anew."""
        if self._session is not None:
            await self._session.close()
