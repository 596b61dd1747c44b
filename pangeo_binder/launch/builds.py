"""Shares builds: one build per environment, however many launches follow it, each with the log from its first line.

A launch that leaves does not end a build, and a late one misses no line. Runs in the binder, on its event loop. Not for
making environments, which the builder does.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from itertools import islice

from ..builders.base import Builder
from ..errors import BuildFailed, UserError
from ..events import Event, Phase
from ..metrics import BUILD_FOLLOWERS, BUILDS, BUILDS_IN_PROGRESS
from ..model import Environment, Repo
from ..policy.request import RepositoryRequest

log = logging.getLogger(__name__)

REPLAY_LINES = 10_000
"""The lines of a log that are kept for late followers: half from its start, half from its end."""


class Replay:
    """Append-only log shared by followers; keeps the first and last `keep`/2 events."""

    def __init__(self, keep: int = REPLAY_LINES) -> None:
        self._head: list[Event] = []
        self._head_size = keep // 2
        self._tail = deque[Event](maxlen=keep - keep // 2)
        self._total = 0
        self._grown = asyncio.Event()

    def add(self, event: Event) -> None:
        """Append `event` and wake all followers."""
        (self._head if len(self._head) < self._head_size else self._tail).append(event)
        self._total += 1
        self.wake()

    def wake(self) -> None:
        """Wake all followers; each reads the log again."""
        self._grown.set()
        self._grown = asyncio.Event()

    async def grown(self, position: int) -> None:
        """Return when the log has events beyond `position`, or when woken."""
        if position >= self._total:
            await self._grown.wait()

    def since(self, position: int) -> tuple[list[Event], int]:
        """Return the events from `position` on, with a line that counts the dropped ones, and the next position."""
        found = self._head[position:]
        first = self._total - len(self._tail)  # the position of the tail's first event
        start = max(position, len(self._head))
        if start < first:
            left_out = f"... {first - start} lines are left out here ...\n"
            found.append(Event(Phase.BUILDING, left_out))
        newest_first = islice(reversed(self._tail), self._total - max(start, first))  # a deque is slow from its middle
        found.extend(reversed(list(newest_first)))
        return found, self._total


class _Running:
    """One running build: its log, and finally its environment or its error."""

    def __init__(self) -> None:
        self.replay = Replay()
        self.environment: Environment | None = None
        self.error: UserError | None = None
        self.task: asyncio.Task[None] | None = None

    @property
    def ended(self) -> bool:
        return self.environment is not None or self.error is not None


class SharedBuilds:
    """All builds of this process, one per repository and commit."""

    def __init__(self, builder: Builder) -> None:
        self._builder = builder
        self._running: dict[tuple[str, str], _Running] = {}
        self._stopped = False

    async def find(self, repo: Repo) -> Environment | None:
        """Return the environment of `repo` if it is ready."""
        return await self._builder.find(repo)

    async def find_request(self, environment: Environment) -> RepositoryRequest:
        """Return the request of the repository of `environment`. Raises RequestInvalid."""
        return await self._builder.find_request(environment)

    async def follow(self, repo: Repo) -> AsyncGenerator[Event, None]:
        """Yield the log of the build of `repo` from its first line, then BUILT; start the build if none runs.

        For an environment that is ready, yield only BUILT. Raises BuildFailed, RepoNotFound or RefNotFound; the next
        follower retries a build that failed. Closing this generator does not end the build.
        """
        if found := await self.find(repo):
            yield _built(found)
            return
        running, position = self._join(repo), 0
        with BUILD_FOLLOWERS.track_inprogress():
            while True:
                events, position = running.replay.since(position)
                for event in events:
                    yield event
                if events:
                    continue
                if running.ended:
                    break
                await running.replay.grown(position)
        if running.environment is None:
            raise _again(running.error)
        yield _built(running.environment)

    async def stop(self) -> None:
        """End all builds and close the builder; return when nothing of them is left. Followers get BuildFailed."""
        self._stopped = True
        running_builds = list(self._running.values())
        tasks = [running.task for running in running_builds if running.task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for running in running_builds:  # a task cancelled before its first step did not set an error
            running.error = running.error or _stopping()
            running.replay.wake()
        await self._builder.close()

    def _join(self, repo: Repo) -> _Running:
        key = (repo.ref.url, repo.revision)
        if key not in self._running:
            if self._stopped:
                raise _stopping()
            running = self._running[key] = _Running()
            running.task = asyncio.create_task(self._run(repo, running), name=f"build of {repo.ref.name}")
        return self._running[key]

    async def _run(self, repo: Repo, running: _Running) -> None:
        outcome = "failed"
        try:
            with BUILDS_IN_PROGRESS.track_inprogress():
                await self._build(repo, running)
            outcome = "built"
        except UserError as error:
            running.error = error
        except asyncio.CancelledError:
            outcome, running.error = "cancelled", _stopping()
            raise
        except Exception as error:
            running.error = _ours(repo, error)
        finally:
            BUILDS.labels(outcome).inc()
            with suppress(KeyError):
                del self._running[(repo.ref.url, repo.revision)]
            running.replay.wake()

    async def _build(self, repo: Repo, running: _Running) -> None:
        environment = None
        async with aclosing(self._builder.build(repo)) as building:
            async for event in building:
                environment = event.environment
                if environment is None:
                    running.replay.add(Event(event.phase, f"{event.line}\n"))
        if environment is None:
            raise RuntimeError("the builder ended without an environment")
        running.environment = environment


def _built(environment: Environment) -> Event:
    return Event(Phase.BUILT, "The environment is ready.\n", image_name=environment.id)


def _again(error: UserError | None) -> UserError:
    """Return a new error for each follower, because raising one error in many tasks mixes their tracebacks."""
    error = error or _stopping()
    return type(error)(error.message, error.hint)


def _stopping() -> BuildFailed:
    return BuildFailed("The build was ended because this binder is stopping.", "Open the link again in a minute.")


def _ours(repo: Repo, error: Exception) -> BuildFailed:
    """Log an internal error under an id, and return the error that shows the id."""
    id_ = secrets.token_hex(4)
    log.error("Build %s of %s at %s failed", id_, repo.ref.url, repo.revision, exc_info=error)
    return BuildFailed("The build failed on this binder's side.", f"Tell its operator this number: {id_}.")
