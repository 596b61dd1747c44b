"""The storage service without HTTP: grants and revokes a launch's storage, and prunes its scratch.

Runs in the storage process. The credentials API (`app`) and the S3 front share its launch table.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from pathlib import Path

from ..liveness import IsAlive
from ..model import StorageGrant
from .issuers.base import Credentials
from .issuers.front import FrontIssuer
from .launches import LaunchTable
from .reaper import Reaper
from .s3.bucket import measure
from .s3.call import Stores
from .s3.directory import DirectoryBucket
from .s3.front import S3Front
from .s3.uploads import abort_uploads, measure_uploads

log = logging.getLogger(__name__)

_FOLDERS = ("objects", "staging", "uploads")
_STAGED = re.compile(r"[0-9a-f]{24}")


class StorageService:
    """All state and operations of the storage process, over one state directory."""

    def __init__(self, state_dir: Path, public_endpoint: str, master_key: str, is_alive: IsAlive | None) -> None:
        for folder in (state_dir, *(state_dir / name for name in _FOLDERS)):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.table = LaunchTable(state_dir / "launches.json")
        self._stores = Stores(DirectoryBucket(state_dir / "objects"), state_dir / "staging", state_dir / "uploads")
        self.front = S3Front(self.table, self._stores, master_key)
        self._issuer = FrontIssuer(public_endpoint, master_key, state_dir / "aws-config", self.front.abort_requests)
        self._reaper = Reaper(self.table, is_alive)

    async def start(self) -> None:
        """Remove the staged files of a killed process, and measure the stored bytes of every launch."""
        for path in self._stores.staging.iterdir():
            if _STAGED.fullmatch(path.name):
                path.unlink()
        for launch in self.table:
            if launch.pruned:  # a write in progress may have finished after the pruning
                await self._stores.scratch.delete_prefix(launch.scope.scratch.prefix)
            else:
                launch.usage.stored = await self.measure(launch.id)
        await self.tick(time.time())

    async def measure(self, launch_id: str) -> int:
        """Return the size in bytes of the launch's objects and unfinished uploads, by listing all of them."""
        parts = await asyncio.to_thread(measure_uploads, self._stores.uploads, launch_id)
        return parts + await measure(self._stores.scratch, f"{launch_id}/")

    async def grant(self, launch_id: str, owner: str, grant: StorageGrant, expires_at: float) -> Credentials:
        """Add the launch to the table and return its credentials; repeated calls return the same ones.

        Raises LaunchRefused for a launch that ended, ValueError for a grant that cannot be served.
        """
        launch = self.table.grant(launch_id, owner, grant, expires_at, time.time())
        return await self._issuer.issue(launch.scope, launch.expires_at)

    async def credentials(self, launch_id: str, now: float) -> Credentials | None:
        """Return a live launch's credentials again; None if the launch is unknown or has ended."""
        launch = self.table.get(launch_id)
        return await self._issuer.issue(launch.scope, launch.expires_at) if launch and launch.live(now) else None

    async def revoke(self, launch_id: str) -> None:
        """Revoke the launch's keys and abort its requests and unfinished uploads. Its scratch is kept as granted."""
        launch = self.table.revoke(launch_id, time.time())
        if launch is None:
            return
        await self._issuer.revoke(launch_id)
        held = await asyncio.to_thread(measure_uploads, self._stores.uploads, launch_id)
        await asyncio.to_thread(abort_uploads, self._stores.uploads, launch_id)
        launch.usage.stored = max(0, launch.usage.stored - held)
        log.info("revoked %s of %s", launch_id, launch.owner)
        await self.prune(time.time())

    async def tick(self, now: float) -> None:
        """Revoke launches that ended by `now` (seconds since the epoch), and prune scratch whose keep time is over."""
        for launch in await self._reaper.find_ended(now):
            await self.revoke(launch.id)
        await self.prune(now)
        self.table.remove_old_rows(now)

    async def prune(self, now: float) -> None:
        """Remove the scratch of launches that ended longer ago than their grant keeps it."""
        for launch in self.table:
            if launch.prune_due(now):
                await self._stores.scratch.delete_prefix(launch.scope.scratch.prefix)
                await asyncio.to_thread(abort_uploads, self._stores.uploads, launch.id)
                self.table.mark_pruned(launch)
                log.info("pruned %s", launch.id)
