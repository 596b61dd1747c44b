"""The backstop: revokes launches whose server is gone although nobody said so, or whose time is over.

The hub normally revokes. A server counts as gone when it was seen gone twice in a row; what cannot be asked is unknown,
and unknown ends nothing. In the storage process.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from urllib.parse import quote

import aiohttp
from yarl import URL

from .launches import LaunchTable, StoredLaunch

log = logging.getLogger(__name__)

GRACE_SECONDS = 60
"""A launch is vended before its server runs; younger ones are not asked about."""
_TIMEOUT_SECONDS = 10

IsAlive = Callable[[str], Awaitable[bool | None]]
"""Tells whether an owner (`user/server`) runs; None where that is not known."""


class Reaper:
    """Finds the launches of `table` that are over."""

    def __init__(self, table: LaunchTable, is_alive: IsAlive | None) -> None:
        self._table = table
        self._is_alive = is_alive
        self._gone_once: set[str] = set()

    async def over(self, now: float) -> list[StoredLaunch]:
        """Return the launches to revoke at `now` (seconds since the epoch)."""
        open_launches = [launch for launch in self._table if launch.revoked_at is None]
        expired = [launch for launch in open_launches if not launch.live(now)]
        asked = [launch for launch in open_launches if launch.live(now) and now >= launch.vended_at + GRACE_SECONDS]
        gone = {launch.id for launch in asked if await self._asked(launch.owner) is False}
        twice = [launch for launch in asked if launch.id in gone & self._gone_once]
        self._gone_once = gone
        return expired + twice

    async def _asked(self, owner: str) -> bool | None:
        return None if self._is_alive is None else await self._is_alive(owner)


class HubIsAlive:
    """Asks JupyterHub whether a server runs.

    `api_url` is JUPYTERHUB_API_URL, `token` JUPYTERHUB_API_TOKEN with the scopes `read:users:name` and `read:servers`.
    https://jupyterhub.readthedocs.io/en/stable/reference/rest-api.html
    """

    def __init__(self, api_url: str, token: str) -> None:
        self._api_url = api_url.rstrip("/")
        self._token = token

    async def __call__(self, owner: str) -> bool | None:
        """Return whether `owner` (`user/server`, the server's name may be empty) runs; None on any doubt."""
        user, _, server = owner.partition("/")
        try:
            return await self._ask(user, server)
        except (aiohttp.ClientError, TimeoutError, ValueError, AttributeError) as error:
            log.warning("JupyterHub could not be asked about a server: %s", type(error).__name__)
            return None

    async def _ask(self, user: str, server: str) -> bool | None:
        timeout = aiohttp.ClientTimeout(total=_TIMEOUT_SECONDS)
        headers = {"Authorization": f"token {self._token}"}
        async with (
            aiohttp.ClientSession(timeout=timeout, headers=headers) as session,
            session.get(URL(f"{self._api_url}/users/{quote(user, safe='')}", encoded=True)) as answer,
        ):
            if answer.status == 404:
                return False
            if answer.status != 200:
                return None
            servers = (await answer.json()).get("servers")
        if servers is None:  # the token may not see servers
            return None
        return server in servers and not servers[server].get("stopped", False)
