"""The storage service without HTTP: grants and revokes a launch's storage, and prunes its scratch.

Runs in the storage process. The credentials API (`app`) and the S3 front share its launch table. Counting what a
launch stores is `measuring`.
"""

from __future__ import annotations

import asyncio
import logging
import re
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from ..liveness import IsAlive
from ..metrics import STORAGE_VOLUME_BYTES
from ..model import StorageGrant
from .durable import Durability
from .issuers.base import Credentials
from .issuers.front import FrontIssuer
from .launches import LaunchTable, StoredLaunch, TableUnwritable
from .measuring import Measuring
from .quota import Amount
from .reaper import Reaper
from .s3.call import Locks, Stores
from .s3.directory import DirectoryBucket
from .s3.front import S3Front
from .s3.uploads import Uploads

log = logging.getLogger(__name__)

_FOLDERS = ("objects", "staging", "uploads", "completed", "trash")
_STAGED = re.compile(r"[0-9a-f]{24}")


@dataclass(frozen=True, slots=True)
class Capacity:
    """What is promised to launches, and the disk it is on, in bytes."""

    granted: int
    volume: int

    @property
    def overcommitted(self) -> bool:
        """Whether the launches could not all use what they were granted."""
        return self.granted > self.volume


class StorageService:
    """All state and operations of the storage process, over one state directory."""

    def __init__(
        self,
        state_dir: Path,
        public_endpoint: str,
        master_key: str,
        is_alive: IsAlive | None,
        durability: Durability = Durability.FULL,
        keepalive_seconds: float = 5,
    ) -> None:
        """Open the state at `state_dir`. Raises TableUnreadable."""
        for folder in (state_dir, *(state_dir / name for name in _FOLDERS)):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._state_dir = state_dir
        self.table = LaunchTable(state_dir / "launches.json", durability)
        objects = DirectoryBucket(state_dir / "objects", durability)
        uploads = Uploads(state_dir / "uploads", state_dir / "completed", durability)
        self._stores = Stores(objects, state_dir / "staging", uploads, keepalive_seconds)
        self._measuring = Measuring(self.table, objects, uploads)
        self.front = S3Front(self.table, self._stores, master_key, self._measuring.make_exact)
        self._issuer = FrontIssuer(public_endpoint, master_key, state_dir / "aws-config", self.front.abort_requests)
        self._reaper = Reaper(self.table, is_alive)
        self._was_overcommitted = False

    async def start(self) -> None:
        """Do what has to be done before the first request; its time does not depend on how much is stored."""
        for path in self._stores.staging.iterdir():
            if _STAGED.fullmatch(path.name):
                path.unlink()
        for launch in self.table:
            if launch.pruned:  # a write in progress may have finished after the pruning
                self._discard(launch)
        await self._prune(time.time())
        await self._save()

    async def catch_up(self) -> None:
        """Do the rest of the start while requests are served: empty the trash, and measure every launch again."""
        await self.tick(time.time())
        await self._measuring.measure_all()
        self._check_capacity()

    @property
    def locks(self) -> Locks:
        """The locks of keys and uploads that requests hold while they change them."""
        return self._stores.locks

    async def measure(self, launch_id: str) -> int:
        """Return the size in bytes of the launch's objects and unfinished uploads, by listing all of them."""
        return (await self._measuring.measure(launch_id)).size

    async def usage(self, launch_id: str) -> StoredLaunch | None:
        """Return the launch with its exact usage; None if unknown."""
        launch = self.table.get(launch_id)
        if launch is not None:
            await self._measuring.make_exact(launch)
        return launch

    def capacity(self) -> Capacity:
        """Return the sum of all grants and the size of the disk, of which other files take a part."""
        disk = shutil.disk_usage(self._state_dir)
        volume = disk.free + sum(launch.usage.stored for launch in self.table)
        STORAGE_VOLUME_BYTES.set(volume)
        return Capacity(self.table.granted_bytes, volume)

    def _check_capacity(self) -> None:
        """Log once when the sum of the grants becomes larger than the disk."""
        now = self.capacity()
        if now.overcommitted and not self._was_overcommitted:
            log.warning(
                "launches were granted %d bytes of scratch, but the disk has room for %d: it may become full before "
                "they reach their limits", now.granted, now.volume,
            )  # fmt: skip
        self._was_overcommitted = now.overcommitted

    async def grant(self, launch_id: str, owner: str, grant: StorageGrant, expires_at: float) -> Credentials:
        """Add the launch to the table and return its credentials; repeated calls return the same ones.

        Raises LaunchRefused for a launch that ended, TableUnwritable on a full disk, and ValueError for a grant that
        cannot be served.
        """
        launch = await self.table.grant(launch_id, owner, grant, expires_at, time.time())
        self._check_capacity()
        return await self._issuer.issue(launch.scope, launch.expires_at)

    async def credentials(self, launch_id: str, now: float) -> Credentials | None:
        """Return a live launch's credentials again; None if the launch is unknown or has ended."""
        launch = self.table.get(launch_id)
        return await self._issuer.issue(launch.scope, launch.expires_at) if launch and launch.live(now) else None

    async def revoke(self, launch_id: str) -> None:
        """Revoke the launch's keys and abort its requests and unfinished uploads. Its scratch is kept as granted.

        The keys are invalid from now on, even if this raises TableUnwritable because it cannot be recorded yet.
        """
        try:
            launch = await self.table.revoke(launch_id, time.time())
        finally:
            await self._issuer.revoke(launch_id)
        if launch is None:
            return
        held = Amount(*await asyncio.to_thread(self._stores.uploads.measure, launch_id))
        await asyncio.to_thread(self._stores.uploads.abort_all, launch_id)
        launch.add(Amount(-held.size, -held.files))
        log.info("revoked %s of %s", launch_id, launch.owner)
        await self._prune(time.time())
        await self._save()

    async def tick(self, now: float) -> None:
        """Revoke launches that ended by `now` (seconds since the epoch), and prune scratch whose keep time is over."""
        for launch in await self._reaper.find_ended(now):
            try:
                await self.revoke(launch.id)
            except TableUnwritable:  # logged; the revocation holds
                continue
        await self._prune(now)
        await asyncio.to_thread(self._empty_trash)
        self.table.remove_old_rows(now)
        await self._save()

    async def close(self) -> None:
        """Save the table, so that the next start can trust what it says."""
        try:
            await self.table.save(clean=self._measuring.is_exact())
        except TableUnwritable:
            log.error("the next start will measure what every launch stores, because it could not be saved")

    async def _prune(self, now: float) -> None:
        """Remove the scratch of launches that ended longer ago than their grant keeps it."""
        for launch in self.table:
            if launch.prune_due(now):
                await asyncio.to_thread(self._discard, launch)
                self.table.mark_pruned(launch)
                log.info("pruned %s", launch.id)

    def _discard(self, launch: StoredLaunch) -> None:
        """Move the launch's scratch out of reach, which takes no time, and no space on a full disk."""
        scratch = self._state_dir / "objects" / launch.id
        if scratch.exists():
            scratch.rename(self._state_dir / "trash" / f"{launch.id}-{time.time_ns()}")
        self._stores.uploads.abort_all(launch.id)

    def _empty_trash(self) -> None:
        for path in (self._state_dir / "trash").iterdir():
            shutil.rmtree(path, ignore_errors=True)

    async def _save(self) -> None:
        """Save the table; on a full disk it stays correct in memory, is logged, and is saved by a later tick."""
        try:
            await self.table.save()
        except TableUnwritable:
            return
