"""Decides when to end a server, and removes what ended servers leave in the hub's database.

jupyterhub-idle-culler ends servers: it asks `should_cull` about each one. A server without a launch in its state was
not started with one of our tickets, so it ends at once. Its own removal of users would delete people's accounts, so
`LaunchCuller` removes users itself: only those that were made for one anonymous launch. Runs in the culler's process.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar
from urllib.parse import quote

import aiohttp
from jupyterhub_idle_culler import IdleCuller
from tornado.ioloop import IOLoop, PeriodicCallback
from traitlets import Int

from ..answers import parse_json, read_bytes
from ..model import launch_of
from ..names import is_anonymous_user

log = logging.getLogger(__name__)

_PAGE = 20
"""How many users are read at a time: each has some KiB for each of its servers."""
_PAGE_BYTES = 1 << 22
_PAGES = 5000
"""More pages than this are no list of users."""
_TIMEOUT = aiohttp.ClientTimeout(total=30)


def should_cull(inactive: timedelta | None, inactive_limit: int, server: dict[str, Any]) -> bool:
    """Return whether to cull the hub's `server` model now; the culler's own `inactive_limit` is not used."""
    return decide(inactive or timedelta(), server, datetime.now(UTC))


def decide(inactive: timedelta, server: dict[str, Any], now: datetime) -> bool:
    """Return whether to cull, at `now`, a server that has been inactive for `inactive`."""
    launch = launch_of(server)
    if launch is None:
        return True
    grant = launch.grant.server
    age = now - datetime.fromisoformat(server["started"])
    return inactive.total_seconds() >= grant.idle_seconds or age.total_seconds() >= grant.max_age_seconds


def leftovers(user: dict[str, Any], oldest: datetime) -> list[str]:
    """Return the paths of what to delete of the hub's `user` model: what was last active before `oldest`.

    The user itself if it was made for one launch and has no server; of a person only servers that have stopped.
    """
    path, servers = f"/users/{quote(user['name'], safe='')}", user.get("servers") or {}
    if not is_anonymous_user(user["name"]):
        stopped = (name for name, server in servers.items() if name and server["stopped"] and _is_old(server, oldest))
        return [f"{path}/servers/{quote(name, safe='')}" for name in stopped]
    if all(server["stopped"] for server in servers.values()) and _is_old(user, oldest):
        return [f"/pangeo-binder{path}"]
    return []


def _is_old(model: dict[str, Any], oldest: datetime) -> bool:
    seen = model.get("last_activity")
    # the hub knows when what was never active was made, and refuses to delete it too early
    return seen is None or datetime.fromisoformat(seen) < oldest


class LaunchCuller(IdleCuller):
    """The culler, which also removes the users of anonymous launches and the stopped servers of people."""

    name: ClassVar[str] = "pangeo-binder-culler"
    user_seconds = Int(60, help="How long the hub keeps such a user or server after its last activity.", config=True)

    def start(self) -> None:
        """Cull and remove periodically until stopped."""
        if self.config_file:
            self.load_config_file(self.config_file)
        self.cull_users = False
        IOLoop.current().add_callback(self._remove)
        PeriodicCallback(self._remove, 1000 * self.cull_every).start()
        super().start()

    async def _remove(self) -> None:
        """Remove once; what fails is tried again in the next round."""
        headers = {"Authorization": f"token {os.environ['JUPYTERHUB_API_TOKEN']}"}
        oldest = datetime.now(UTC) - timedelta(seconds=self.user_seconds)
        try:
            async with aiohttp.ClientSession(headers=headers, timeout=_TIMEOUT) as http:
                async for user in self._users(http):
                    for path in leftovers(user, oldest):
                        async with http.delete(f"{self.url}{path}", **self._options(path)) as answer:
                            answer.release()
        except (aiohttp.ClientError, TimeoutError, ValueError, KeyError, TypeError) as error:
            log.warning("Users and servers are left to the next round: %s", type(error).__name__)

    def _options(self, path: str) -> dict[str, Any]:
        """Return what makes a request remove a named server as well as stopping it, or only an unused user."""
        if "/servers/" in path:
            return {"json": {"remove": True}}
        return {"params": {"unused_seconds": str(self.user_seconds)}}

    async def _users(self, http: aiohttp.ClientSession) -> AsyncIterator[dict[str, Any]]:
        for page in range(_PAGES):
            query = f"include_stopped_servers=true&offset={page * _PAGE}&limit={_PAGE}"
            async with http.get(f"{self.url}/users?{query}", raise_for_status=True) as answer:
                users = parse_json(await read_bytes(answer, _PAGE_BYTES))
            if not isinstance(users, list):
                return
            for user in users:
                yield user
            if len(users) < _PAGE:
                return
            await asyncio.sleep(0)


if __name__ == "__main__":
    LaunchCuller.launch_instance()
