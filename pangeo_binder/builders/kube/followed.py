"""Ends Jobs that no binder follows any more, though a Job belongs to none of them.

Each binder that follows a Job renews an annotation of it. Each binder also looks at all Jobs, and ends one whose
annotation has not changed for as long as three renewals. It compares what it sees with what it saw before, by its own
clock, so the clocks of machines need not agree. Runs in the binder.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Final

from ...names import LABEL
from .jobs import ClusterUnavailable, Jobs
from .podstate import job_ended

log = logging.getLogger(__name__)

RENEW_SECONDS: Final = 10.0
"""How often a follower renews, and how often a binder looks."""
UNFOLLOWED_SECONDS: Final = 30.0
"""How long a Job lasts that nobody renews; a page that lost its binder connects to another one within seconds."""
_ANNOTATION: Final = f"{LABEL}/last-followed"


class FollowedJobs:
    """Who follows which Jobs, as far as this binder sees."""

    def __init__(
        self, jobs: Jobs, renew_seconds: float = RENEW_SECONDS, unfollowed_seconds: float = UNFOLLOWED_SECONDS
    ) -> None:
        self._jobs = jobs
        self._renew_seconds, self._unfollowed_seconds = renew_seconds, unfollowed_seconds
        self._seen: dict[str, tuple[str, float]] = {}
        """The annotation of each running Job, by its uid, and when this binder first saw it so."""

    async def renew(self, job: Any) -> bool:
        """Say that this binder follows `job`; return False if it is being ended. Raises ClusterUnavailable."""
        return await self._jobs.annotate(job, _ANNOTATION, datetime.now(UTC).isoformat())

    @asynccontextmanager
    async def following(self, job: Any) -> AsyncIterator[None]:
        """Renew while the block runs."""
        renewing = asyncio.create_task(self._keep_renewing(job), name=f"renewal of {job.metadata.name}")
        try:
            yield
        finally:
            renewing.cancel()

    async def reap(self) -> list[str]:
        """End the Jobs that have had no follower for too long; return their names. Raises ClusterUnavailable."""
        try:
            running = [job for job in await self._jobs.all() if job_ended(job) is None]
        except ClusterUnavailable:
            self._seen.clear()  # nobody could renew either: begin anew
            raise
        now, before = time.monotonic(), self._seen
        self._seen, ended = {}, []
        for job in running:
            followed = (job.metadata.annotations or {}).get(_ANNOTATION, "")
            text, since = before.get(job.metadata.uid, (followed, now))
            self._seen[job.metadata.uid] = (followed, since if text == followed else now)
            unfollowed = text == followed and now - since >= self._unfollowed_seconds
            if unfollowed and not job.metadata.deletion_timestamp and await self._jobs.delete(job, unchanged=True):
                ended.append(job.metadata.name)
        return ended

    async def keep_reaping(self) -> None:
        """Reap at intervals until cancelled."""
        while True:
            try:
                if ended := await self.reap():
                    log.info("Ended builds that nobody follows: %s", " ".join(ended))
            except ClusterUnavailable as error:
                log.warning("Could not look for builds that nobody follows: %s", error)
            await asyncio.sleep(self._renew_seconds)

    async def _keep_renewing(self, job: Any) -> None:
        while True:
            try:
                if not await self.renew(job):
                    return
            except ClusterUnavailable as error:
                log.warning("Could not renew a build's Job: %s", error)
            await asyncio.sleep(self._renew_seconds)
