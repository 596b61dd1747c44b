"""The backstop for revocations the hub missed: finds launches that expired or whose server stopped.

Normally the hub revokes. Runs in the storage process.
"""

from __future__ import annotations

from ..liveness import IsAlive, MissingServers
from .launches import LaunchTable, StoredLaunch

GRACE_SECONDS = 60
"""Seconds after issuing before the reaper asks for the server: credentials are issued before the server runs."""


class Reaper:
    """Finder of the launches in `table` that ended; without `is_alive` it finds only expired ones."""

    def __init__(self, table: LaunchTable, is_alive: IsAlive | None) -> None:
        self._table = table
        self._missing = MissingServers(is_alive) if is_alive else None

    async def find_ended(self, now: float) -> list[StoredLaunch]:
        """Return the launches to revoke at `now` (seconds since the epoch)."""
        unrevoked = [launch for launch in self._table if launch.revoked_at is None]
        expired = [launch for launch in unrevoked if not launch.live(now)]
        if self._missing is None:
            return expired
        asked = [launch for launch in unrevoked if launch.live(now) and now >= launch.issued_at + GRACE_SECONDS]
        missing = await self._missing.find(launch.owner for launch in asked)
        return expired + [launch for launch in asked if launch.owner in missing]
