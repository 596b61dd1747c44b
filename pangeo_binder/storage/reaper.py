"""The backstop: finds launches whose server is gone although nobody said so, or whose time is over.

The hub normally revokes. In the storage process.
"""

from __future__ import annotations

from ..liveness import IsAlive, Missing
from .launches import LaunchTable, StoredLaunch

GRACE_SECONDS = 60
"""Credentials are issued before its server runs; younger ones are not asked about."""


class Reaper:
    """Finds the launches of `table` that are over; without `is_alive` only those whose time is."""

    def __init__(self, table: LaunchTable, is_alive: IsAlive | None) -> None:
        self._table = table
        self._missing = Missing(is_alive) if is_alive else None

    async def over(self, now: float) -> list[StoredLaunch]:
        """Return the launches to revoke at `now` (seconds since the epoch)."""
        unrevoked = [launch for launch in self._table if launch.revoked_at is None]
        expired = [launch for launch in unrevoked if not launch.live(now)]
        if self._missing is None:
            return expired
        asked = [launch for launch in unrevoked if launch.live(now) and now >= launch.issued_at + GRACE_SECONDS]
        missing = await self._missing.among(launch.owner for launch in asked)
        return expired + [launch for launch in asked if launch.owner in missing]
