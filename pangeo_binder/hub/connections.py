"""The hub's HTTP connections to the services that provision launches: one pool per client, opened on first use.

Runs in the hub. Every request times out after 20 seconds, so a service that hangs cannot delay a launch longer.
"""

from __future__ import annotations

import aiohttp

from ..trace_http import passing_on

_SERVICE_TIMEOUT = aiohttp.ClientTimeout(total=20)


class Connections:
    """A connection pool, opened in the event loop that first uses it."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    @property
    def http(self) -> aiohttp.ClientSession:
        """The client session for requests; opens a new one if there is none or it is closed."""
        if self._session is None or self._session.closed:
            # no connection limit: a hundred simultaneous launches must not queue behind one slow service
            connector = aiohttp.TCPConnector(limit=0)
            self._session = aiohttp.ClientSession(
                timeout=_SERVICE_TIMEOUT, connector=connector, trace_configs=[passing_on()]
            )
        return self._session

    async def close(self) -> None:
        """Close the pool; the next request opens a new one."""
        if self._session is not None:
            await self._session.close()
