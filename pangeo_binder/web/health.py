"""Check whether the services that the binder depends on answer. `api.HealthApi` shows the result. Binder process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import aiohttp

from .context import Check

_SECONDS = 5
"""How long a service may take to answer."""


class HealthChecks:
    """Health checks by one GET request to each service; any status except 200 means that the service is unhealthy."""

    def __init__(self, urls: Mapping[str, str], is_stopping: Callable[[], bool] = lambda: False) -> None:
        """`urls` maps each service's name to the URL to request. A binder that is stopping is unhealthy itself."""
        self._urls = urls
        self._is_stopping = is_stopping

    async def __call__(self) -> list[Check]:
        """Return a check for each service, in the order of `urls`."""
        draining = Check("binder", False, "is draining: it finishes launches and starts no more")
        own = [draining] if self._is_stopping() else []
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_SECONDS)) as session:
            return own + list(await asyncio.gather(*(_check(session, *pair) for pair in self._urls.items())))


async def _check(session: aiohttp.ClientSession, service: str, url: str) -> Check:
    try:
        async with session.get(url) as response:
            return Check(service, response.status == 200, f"answers {response.status}")
    except (aiohttp.ClientError, TimeoutError):
        return Check(service, False, "does not answer")
