"""Shares builds: one build per environment, however many launches follow it, each with the log from its first line.

A launch that leaves does not end a build that others follow, and a late one misses no line. A build that nobody follows
is ended after a grace, unless it was asked for in advance. Runs in the binder, on its event loop. Not for making
environments, which the builder does, nor for which build is next (`turns`).
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager

from .. import binderhub_metrics, metrics, trace
from ..builders.base import Builder, identity
from ..errors import BuildFailed, UserError
from ..events import Event, Phase
from ..model import Environment, Repo, RepoRef
from ..policy.request import RepositoryRequest
from .replay import Replay
from .turns import IN_ADVANCE, Asker, BuildShares, Turn, Turns

log = logging.getLogger(__name__)


class _Running:
    """One build that waits or runs: its log, who follows it, and finally its environment or its error."""

    def __init__(self, repo: Repo) -> None:
        self.repo = repo
        self.refs = {repo.ref}
        """The refs at this revision whose launches have joined."""
        self.replay = Replay()
        self.turn = Turn(self.replay.wake)
        self.environment: Environment | None = None
        self.error: UserError | None = None
        self.task: asyncio.Task[None] | None = None
        self.followers = 0
        self.in_advance = False
        """Whether it was asked for in advance, and so runs on without followers."""
        self.grace: asyncio.TimerHandle | None = None
        self.unfollowed = False
        """Whether it is being ended because nobody follows it."""

    @property
    def ended(self) -> bool:
        return self.environment is not None or self.error is not None

    def end(self) -> None:
        """End it; its task cleans up."""
        self.unfollowed = True
        if self.task is not None:
            self.task.cancel()

    def stop_grace(self) -> None:
        if self.grace is not None:
            self.grace.cancel()
            self.grace = None


class SharedBuilds:
    """All builds of this process, one per repository and commit."""

    def __init__(self, builder: Builder, shares: BuildShares | None = None) -> None:
        self._builder = builder
        self._shares = shares or BuildShares()
        self._turns = Turns(self._shares)
        self._running: dict[tuple[str, ...], _Running] = {}
        self._stopped = False

    @property
    def running(self) -> int:
        """How many builds wait or run."""
        return len(self._running)

    async def find(self, repo: Repo) -> Environment | None:
        """Return the environment of `repo` if it is ready."""
        return await self._builder.find(repo)

    async def find_request(self, environment: Environment) -> RepositoryRequest:
        """Return the request of the repository of `environment`. Raises RequestInvalid."""
        return await self._builder.find_request(environment)

    async def follow(self, repo: Repo, asker: Asker = IN_ADVANCE) -> AsyncGenerator[Event, None]:
        """Yield the build's positions in the queue, its log from its first line, then BUILT; start it if none runs.

        For an environment that is ready, yield only BUILT. Raises QuotaExceeded if too many builds wait, BuildFailed,
        RepoNotFound or RefNotFound; the next follower retries a build that failed. When the last follower closes this
        generator, the build leaves the queue, or runs on for the grace; one asked for in advance is never ended so.
        """
        while True:
            if found := await self.find(repo):
                yield _built(found)
                return
            ending = self._running.get(identity(repo))
            if ending is None or not ending.unfollowed or ending.task is None:
                break
            await asyncio.wait({ending.task})
        with self._following(repo, asker) as running, metrics.BUILD_FOLLOWERS.track_inprogress():
            async with aclosing(_events(running)) as events:
                async for event in events:
                    yield event
        if running.environment is None:
            raise _again(running.error)
        yield _built(running.environment)

    def building(self, ref: RepoRef) -> Repo | None:
        """Return the repository of `ref` at the revision whose build runs or waits; None without one."""
        builds = (running for running in self._running.values() if ref in running.refs and not running.ended)
        return next((running.repo for running in builds), None)

    async def stop(self) -> None:
        """End all builds and close the builder; return when nothing of them is left. Followers get BuildFailed."""
        self._stopped = True
        tasks = [running.task for running in self._running.values() if running.task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._builder.close()

    @contextmanager
    def _following(self, repo: Repo, asker: Asker) -> Iterator[_Running]:
        """Join the build of `repo` on behalf of `asker`, or begin one, and leave it with the block."""
        running = self._running.get(identity(repo)) or _Running(repo)
        if running.task is None and self._stopped:
            raise _stopping()
        self._turns.ask(running.turn, asker)
        running.refs.add(repo.ref)
        running.followers += 1
        running.in_advance |= asker == IN_ADVANCE
        running.stop_grace()
        if running.task is None:
            self._running[identity(repo)] = running
            running.task = asyncio.create_task(
                self._run(repo, running), name=f"build of {repo.ref.name}", context=trace.shared()
            )
            running.task.add_done_callback(lambda task: self._ended(repo, running))
        try:
            yield running
        finally:
            self._leave(running, asker)

    def _leave(self, running: _Running, asker: Asker) -> None:
        running.followers -= 1
        if running.ended:
            return
        if asker != IN_ADVANCE:
            self._turns.withdraw(running.turn, asker)
        if running.followers or running.in_advance:
            return
        if running.turn.waits:
            running.end()
        else:
            running.grace = asyncio.get_running_loop().call_later(self._shares.grace_seconds, running.end)

    async def _run(self, repo: Repo, running: _Running) -> None:
        await running.turn.begun()
        outcome, began = "failed", time.perf_counter()
        try:
            await self._build(repo, running)
            outcome = "built"
        except UserError as error:
            running.error = error
        except asyncio.CancelledError:
            outcome = "unfollowed" if running.unfollowed else "cancelled"
            raise
        except Exception as error:
            running.error = _ours(repo, error)
        finally:
            metrics.BUILDS.labels(outcome).inc()
            if outcome in ("built", "failed"):
                status = "success" if outcome == "built" else "failure"
                binderhub_metrics.BUILD_SECONDS.labels(status).observe(time.perf_counter() - began)
                binderhub_metrics.BUILDS_BY_REPOSITORY.inc(status, repo.ref.provider, repo.ref.url)

    def _ended(self, repo: Repo, running: _Running) -> None:
        """Give back what the build holds; its task has ended, perhaps before its first step."""
        running.stop_grace()
        if not running.ended:
            running.error = _stopping()
        del self._running[identity(repo)]
        self._turns.end(running.turn)
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


async def _events(running: _Running) -> AsyncGenerator[Event, None]:
    """Yield the positions of a build that waits, as they fall, then its log until it has ended."""
    read, shown = 0, 0
    while True:
        position = running.turn.position
        if running.turn.waits and position and (not shown or position < shown):
            shown = position
            message = f"Every build slot is taken. You are number {position} in the queue.\n"
            yield Event(Phase.WAITING, message, position=position)
            continue  # it may have moved meanwhile
        events, read = running.replay.since(read)
        for event in events:
            yield event
        if events:
            continue
        if running.ended:
            return
        await running.replay.grown(read)


def _built(environment: Environment) -> Event:
    return Event(Phase.BUILT, "The environment is ready.\n", environment=environment)


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
