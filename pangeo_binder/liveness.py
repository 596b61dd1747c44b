"""Asks the hub whether a server still lives, for the reapers of the gateway and the storage service.

A reaper is the backstop for what the hub could not clean up itself, so it must never act on a doubt: only a clear
"no such server" or "stopped" counts as dead.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from urllib.parse import quote

import aiohttp

MISSES = 2
"""How many times in a row a server has to be found dead before its things are taken away."""


class Liveness:
    """Answers for owners (`user/server`), with a service's own hub token that may read servers."""

    def __init__(self, session: aiohttp.ClientSession, api_url: str, token: str) -> None:
        self._session = session
        self._api_url = api_url.rstrip("/")
        self._headers = {"Authorization": f"token {token}"}
        self._misses: Counter[str] = Counter()

    async def is_alive(self, owner: str) -> bool | None:
        """Return whether the owner's server is starting or running; None where the hub gives no clear answer."""
        user, _, server = owner.partition("/")
        url = f"{self._api_url}/users/{quote(user, safe='')}/servers/{quote(server, safe='')}"
        try:
            async with self._session.get(url, headers=self._headers) as response:
                if response.status == 404:
                    return False
                return not (await response.json())["stopped"] if response.status == 200 else None
        except (aiohttp.ClientError, TimeoutError, ValueError, KeyError):
            return None

    async def dead(self, owners: Iterable[str]) -> list[str]:
        """Return which of `owners` were found dead now and at the calls before, `MISSES` times in all."""
        wanted = set(owners)
        for owner in wanted:
            if await self.is_alive(owner) is False:
                self._misses[owner] += 1
            else:
                self._misses.pop(owner, None)
        self._misses = Counter({owner: count for owner, count in self._misses.items() if owner in wanted})
        return sorted(owner for owner, count in self._misses.items() if count >= MISSES)
