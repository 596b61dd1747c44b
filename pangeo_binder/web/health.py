"""Checks whether the services that the binder depends on answer. Binder process; shown by `api.HealthApi`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import aiohttp

from .context import Check

_SECONDS = 5
"""How long a service may take to answer."""


class HealthChecks:
    """One GET request to each service; any status but 200 is a service that does not work."""

    def __init__(self, urls: Mapping[str, str]) -> None:
        """`urls` holds an address to ask, by the service's name."""
        self._urls = urls

    async def __call__(self) -> list[Check]:
        """Return a check for each service, in their order."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_SECONDS)) as session:
            return list(await asyncio.gather(*(_check(session, *pair) for pair in self._urls.items())))


async def _check(session: aiohttp.ClientSession, service: str, url: str) -> Check:
    try:
        async with session.get(url) as response:
            return Check(service, response.status == 200, f"answers {response.status}")
    except (aiohttp.ClientError, TimeoutError):
        return Check(service, False, "does not answer")
