"""Removes what is left of launches whose server is gone, in case the hub could not do so itself.

The spawner records each launch before it makes anything of it (`record`). So a hub that is killed while a server starts
leaves a record, and the next hub does not know that server. Runs in the command `up`. Clusters, credentials and users
have reapers of their own: in the gateway, in storage and in the culler.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
from collections import defaultdict
from pathlib import Path

from ...liveness import IsAlive, MissingServers
from ...local.layer import home_of
from ...local.processes import end_marked

log = logging.getLogger(__name__)


def record(records: Path, launch_id: str, owner: str) -> None:
    """Record that the server of `owner` (`user/server`) is to run the launch."""
    (records / launch_id).write_text(owner)


def forget(records: Path, launch_id: str) -> None:
    """Remove the record of a launch of which nothing is left."""
    (records / launch_id).unlink(missing_ok=True)


class LaunchReaper:
    """Compares the recorded launches with the hub's servers."""

    def __init__(self, state_dir: Path, records: Path, homes: Path, is_alive: IsAlive) -> None:
        self._state_dir = str(state_dir)
        self._records = records
        self._homes = homes
        self._missing = MissingServers(is_alive)

    async def reap(self) -> list[str]:
        """Remove what is left of the launches whose servers were gone twice, and return the launches' ids."""
        launches = defaultdict(list)
        for each in self._records.iterdir():
            with contextlib.suppress(FileNotFoundError):  # the hub has removed it meanwhile
                if owner := each.read_text():  # empty while the hub writes it
                    launches[owner].append(each.name)
        left = [launch for owner in await self._missing.find(launches) for launch in launches[owner]]
        for launch in left:
            await asyncio.to_thread(self._remove, launch)
        return left

    def _remove(self, launch_id: str) -> None:
        end_marked(self._state_dir, launch_id)
        shutil.rmtree(home_of(self._homes, launch_id), ignore_errors=True)
        forget(self._records, launch_id)
