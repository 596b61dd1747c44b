"""Finds servers that no longer run, for the reapers of the gateway, the hub and the storage service.

A reaper is the backstop for what the hub could not clean up, so it never acts on an unclear answer. Only "no such
server" or "stopped", twice in a row, means that a server is missing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from urllib.parse import quote

import aiohttp

from .answers import read_object

MISSES = 2
"""How many checks in a row must find a server missing before its resources are removed."""

_TIMEOUT = aiohttp.ClientTimeout(total=10)

IsAlive = Callable[[str], Awaitable[bool | None]]
"""Returns whether the server of an owner (`user/server`) is starting or running; None if unknown."""


class HubIsAlive:
    """Client that asks JupyterHub, with a service token that has the scope `read:servers`.

    https://jupyterhub.readthedocs.io/en/stable/reference/rest-api.html
    """

    def __init__(self, api_url: str, token: str) -> None:
        self._api_url = api_url.rstrip("/")
        self._headers = {"Authorization": f"token {token}"}

    async def __call__(self, owner: str) -> bool | None:
        """Return whether the owner's server is starting or running; None if the hub gives no clear answer."""
        user, _, server = owner.partition("/")
        url = f"{self._api_url}/users/{quote(user, safe='')}/servers/{quote(server, safe='')}"
        try:
            async with (
                aiohttp.ClientSession(timeout=_TIMEOUT, headers=self._headers) as session,
                session.get(url) as response,
            ):
                if response.status == 404:
                    return False
                return not (await read_object(response))["stopped"] if response.status == 200 else None
        except (aiohttp.ClientError, TimeoutError, ValueError, KeyError, TypeError):
            return None


class MissingServers:
    """Finder of servers that are missing; remembers the results of earlier checks."""

    def __init__(self, is_alive: IsAlive) -> None:
        self._is_alive = is_alive
        self._misses: Counter[str] = Counter()

    async def find(self, owners: Iterable[str]) -> set[str]:
        """Return those of `owners` whose servers were missing in the last MISSES calls, this one included."""
        missing = {owner for owner in set(owners) if await self._is_alive(owner) is False}
        self._misses = Counter({owner: self._misses[owner] + 1 for owner in missing})
        return {owner for owner, misses in self._misses.items() if misses >= MISSES}
