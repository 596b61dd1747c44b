"""Finds servers that are gone, for the reapers of the gateway and the storage service.

A reaper is the backstop for what the hub could not clean up itself, so it must never act on a doubt: only a clear
"no such server" or "stopped", twice in a row, counts as gone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from urllib.parse import quote

import aiohttp

MISSES = 2
"""How many times in a row a server has to be found gone before its things are taken away."""

_TIMEOUT = aiohttp.ClientTimeout(total=10)

IsAlive = Callable[[str], Awaitable[bool | None]]
"""Tells whether the server of an owner (`user/server`) starts or runs; None where that is not known."""


class HubIsAlive:
    """Asks JupyterHub, with a service's own token that has the scope `read:servers`.

    https://jupyterhub.readthedocs.io/en/stable/reference/rest-api.html
    """

    def __init__(self, api_url: str, token: str) -> None:
        self._api_url = api_url.rstrip("/")
        self._headers = {"Authorization": f"token {token}"}

    async def __call__(self, owner: str) -> bool | None:
        """Return whether the owner's server starts or runs; None where the hub gives no clear answer."""
        user, _, server = owner.partition("/")
        url = f"{self._api_url}/users/{quote(user, safe='')}/servers/{quote(server, safe='')}"
        try:
            async with (
                aiohttp.ClientSession(timeout=_TIMEOUT, headers=self._headers) as session,
                session.get(url) as response,
            ):
                if response.status == 404:
                    return False
                return not (await response.json())["stopped"] if response.status == 200 else None
        except (aiohttp.ClientError, TimeoutError, ValueError, KeyError, TypeError):
            return None


class Missing:
    """Remembers who was found gone before."""

    def __init__(self, is_alive: IsAlive) -> None:
        self._is_alive = is_alive
        self._misses: Counter[str] = Counter()

    async def among(self, owners: Iterable[str]) -> set[str]:
        """Return which of `owners` were found gone now and at the call before."""
        gone = {owner for owner in set(owners) if await self._is_alive(owner) is False}
        self._misses = Counter({owner: self._misses[owner] + 1 for owner in gone})
        return {owner for owner, misses in self._misses.items() if misses >= MISSES}
