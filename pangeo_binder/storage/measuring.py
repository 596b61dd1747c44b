"""Counts what launches store by walking through their files: in the background, or after a kill before the next write.

What the launch table saved at a clean stop is right until somebody changes the files by hand. After a kill it may miss
the last seconds of writes. Runs in the storage process; not for limits (`quota`).
"""

from __future__ import annotations

import logging

from .launches import LaunchTable, StoredLaunch
from .quota import Amount
from .s3.bucket import Bucket
from .s3.call import Locks
from .s3.filework import in_walk_thread
from .s3.uploads import Uploads

log = logging.getLogger(__name__)


class Measuring:
    """Measures the launches of `table`."""

    def __init__(self, table: LaunchTable, objects: Bucket, uploads: Uploads) -> None:
        self._table, self._objects, self._uploads = table, objects, uploads
        self._locks = Locks()

    async def measure(self, launch_id: str) -> Amount:
        """Return what the launch's objects and unfinished uploads take, by listing all of them."""
        size, files = await in_walk_thread(self._uploads.measure, launch_id)
        objects, more = await self._objects.measure(f"{launch_id}/")
        return Amount(size + objects, files + more)

    async def make_exact(self, launch: StoredLaunch) -> None:
        """Return once the launch's usage is exact. The front writes nothing for the launch before that."""
        if launch.measured:
            return
        async with self._locks.hold(launch.id):
            if not launch.measured:
                _set(launch, await self.measure(launch.id))
                launch.measured = True

    async def measure_all(self) -> None:
        """Measure every launch once; a launch that writes meanwhile keeps the count that its writes maintain."""
        for launch in self._table:
            if launch.pruned:
                continue
            if not launch.measured:
                await self.make_exact(launch)
                continue
            before = launch.files.changes
            quiet = not launch.files.writers
            found = await self.measure(launch.id)
            if quiet and not launch.files.writers and before == launch.files.changes:
                _set(launch, found)

    def is_exact(self) -> bool:
        """Return whether the usage of every launch is exact."""
        return all(launch.measured for launch in self._table)


def _set(launch: StoredLaunch, found: Amount) -> None:
    if (launch.usage.stored, launch.files.stored) != (found.size, found.files):
        log.info("%s stores %d bytes in %d files and folders", launch.id, found.size, found.files)
    launch.usage.stored, launch.files.stored = found.size, found.files
