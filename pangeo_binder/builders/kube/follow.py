"""Follows one build's Job to its end: what it waits for, each line of its log once, and why it failed.

Following changes nothing, so any number of binders may follow one Job, and the Job runs on when a binder stops. One
exception: a Job that can never start is deleted. Runs in the binder.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import Any, Final

from ...command import CommandTimedOut
from ...errors import UserError
from ...events import Phase
from ...kube.pod_status import Json, container_state
from ...policy.units import size_text
from ..base import BuildEvent
from ..pod_layout import CONTAINERS
from .job import KubeBuildSettings
from .jobs import ClusterUnavailable, Jobs
from .podlog import LogCursor
from .podstate import failure, job_ended, never_started, pushed_digest, stuck, waits_for

POLL_SECONDS: Final = 1.0
_LOG_TRIES: Final = 3


class RetryWindow:
    """Tolerates a failure that may pass, for a limited time."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._began: float | None = None

    def over(self, failing: bool = True) -> bool:
        """Return whether the failure has lasted too long; if not `failing`, start anew."""
        if not failing:
            self._began = None
            return False
        self._began = time.monotonic() if self._began is None else self._began
        return time.monotonic() - self._began > self._seconds


class JobFollower:
    """Follows one Job."""

    def __init__(self, jobs: Jobs, job: Any, settings: KubeBuildSettings) -> None:
        self._jobs = jobs
        self._job = job
        self._settings = settings
        self._cursors: dict[tuple[str, str], LogCursor] = {}
        self._read: set[tuple[str, str]] = set()
        self._pod: Json | None = None
        self._starting = RetryWindow(settings.retry_seconds)

    @property
    def digest(self) -> str:
        """The digest of the image that the build pushed; empty if it has not, or did not report it."""
        return pushed_digest(self._pod)

    async def events(self) -> AsyncGenerator[BuildEvent, None]:
        """Yield the build's log until the Job is done.

        Raises BuildFailed, RepoNotFound or RefNotFound; CommandTimedOut if it took too long; ClusterUnavailable.
        """
        shown, answering, ended = "", RetryWindow(self._settings.retry_seconds), None
        while ended is None:
            try:
                ended = await self._poll()
                async with aclosing(self._logs()) as lines:
                    async for line in lines:
                        yield BuildEvent(Phase.BUILDING, line)
                answering.over(failing=False)
                waiting = "" if ended else self._waiting()
                if waiting and waiting != shown:
                    shown = waiting
                    yield BuildEvent(Phase.FETCHING, waiting)
                await self._give_up_if_stuck()
            except ClusterUnavailable as error:
                ended = None
                if not error.may_pass or answering.over():
                    raise
            if ended is None:
                await asyncio.sleep(POLL_SECONDS)
        if ended != "Complete":
            raise self._failure(ended)

    def _waiting(self) -> str:
        """Return the line that says what the build waits for, or nothing."""
        waiting = waits_for(self._pod)
        return f"The build's node is gone, and the build starts again. {waiting}" if waiting and self._read else waiting

    async def _poll(self) -> str | None:
        """Read the Job and its pod; return how the Job ended, or None."""
        job = await self._jobs.get(self._job.metadata.name)
        if job is None or job.metadata.uid != self._job.metadata.uid:
            raise failure(None, "", "")
        ended = job_ended(job)
        # a pod that is gone is remembered: its failure has still to be reported
        self._pod = await self._jobs.pod(job) or self._pod
        return ended

    def _failure(self, ended: str) -> UserError | CommandTimedOut:
        if ended == "DeadlineExceeded":
            return CommandTimedOut(f"{self._job.metadata.name} took too long")
        return failure(self._pod, size_text(self._settings.memory_limit_bytes), size_text(self._settings.disk_bytes))

    async def _give_up_if_stuck(self) -> None:
        reason = stuck(self._pod) if self._pod else ""
        if self._starting.over(failing=bool(reason)):
            await self._jobs.delete(self._job)
            raise never_started(reason)

    async def _logs(self) -> AsyncGenerator[str, None]:
        """Yield the new lines of the pod's containers, following each that runs until it ends."""
        for container in CONTAINERS:
            if self._pod is not None:
                async with aclosing(self._log(container)) as lines:
                    async for line in lines:
                        yield line

    async def _log(self, container: str) -> AsyncGenerator[str, None]:
        assert self._pod is not None, "`_logs` checks it first"
        uid, tries = self._pod["metadata"]["uid"], 0
        key = (uid, container)
        cursor = self._cursors.setdefault(key, LogCursor())
        while key not in self._read:
            pod, state = self._pod, container_state(self._pod, container)
            if pod is None or pod["metadata"]["uid"] != uid or not state.has_begun:
                return
            complete = False
            with suppress(ClusterUnavailable):
                async with aclosing(self._jobs.log(pod, container, cursor, follow=state.running)) as lines:
                    async for line in lines:
                        yield line
                        await asyncio.sleep(0)  # a chunk of the log may be thousands of lines
                        if cursor.exhausted:
                            yield "The log is longer than this binder reads; the build continues without it."
                            self._read.add(key)
                            return
                complete = True
            if state.terminated:
                tries += 1
                if complete or tries >= _LOG_TRIES:
                    self._read.add(key)
            elif await self._poll() and not container_state(self._pod, container).terminated:
                return  # the Job ended, and its container with it
            # else the log is read once more after its end: connections also break before it
            if not complete:
                await asyncio.sleep(POLL_SECONDS)
