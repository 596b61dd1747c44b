"""Conformance tests of builders: an environment is found once it is built, and a build that fails leaves nothing.

A test of a driver subclasses `BuilderContract` and defines the fixture `bench`.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod

import pytest

from pangeo_binder.builders.base import Builder, BuildEvent
from pangeo_binder.errors import BuildFailed
from pangeo_binder.events import Phase
from pangeo_binder.model import Repo

CORES = 0.25
"""The cores that the repository of `BuilderBench.good` requests."""
LOG_LINE = "this went wrong"
"""What the build of `BuilderBench.failing` logs before it fails."""


class BuilderBench(ABC):
    """A driver under test, with the parts of the world that a build of its kind needs."""

    good: Repo
    """A repository that can be built; its `pangeo.yaml` requests `CORES`."""
    failing: Repo
    """A repository whose build fails."""
    failure: str
    """The message with which it fails."""
    endless: Repo
    """A repository whose build does not end by itself."""

    logs = True
    """Whether the test's build of `failing` can log anything."""

    @abstractmethod
    def builder(self) -> Builder:
        """Return a new builder, as another process has it."""

    @abstractmethod
    def left(self) -> list[str]:
        """Return what unfinished builds left behind, apart from what another builder continues."""

    async def proceed(self, repo: Repo, events: list[BuildEvent]) -> None:  # noqa: B027 - most have nothing to do
        """Bring the running build of `repo`, which has yielded `events`, to its end; by default it ends itself."""

    def is_running(self, event: BuildEvent) -> bool:
        """Whether the build's own work has begun at this event."""
        return event.phase == Phase.BUILDING

    async def build(self, builder: Builder, repo: Repo, events: list[BuildEvent]) -> None:
        """Build `repo` to the end and append each event."""
        proceeding = asyncio.create_task(self.proceed(repo, events))
        try:
            async for event in builder.build(repo):
                events.append(event)
        finally:
            proceeding.cancel()
            await asyncio.gather(proceeding, return_exceptions=True)


class BuilderContract:
    """The conformance tests of builders."""

    async def test_a_build_yields_its_log_and_then_an_environment_that_all_find(self, bench: BuilderBench) -> None:
        one, other, events = bench.builder(), bench.builder(), list[BuildEvent]()
        assert await one.find(bench.good) is None
        assert await other.find(bench.good) is None
        await bench.build(one, bench.good, events)
        environment = events[-1].environment
        assert environment is not None
        assert [event.environment for event in events[:-1]] == [None] * (len(events) - 1)
        assert all(event.line and "\n" not in event.line for event in events)
        assert {event.phase for event in events[:-1]} <= {Phase.FETCHING, Phase.BUILDING}
        assert events[-1].phase == Phase.BUILT
        assert await one.find(bench.good) == await other.find(bench.good) == environment
        again = [event async for event in other.build(bench.good)]
        assert ([event.phase for event in again], again[-1].environment) == ([Phase.BUILT], environment)
        request = await other.find_request(environment)
        assert request.server is not None and request.server.cpu == CORES

    async def test_a_build_that_fails_says_so_and_leaves_nothing(self, bench: BuilderBench) -> None:
        builder, events = bench.builder(), list[BuildEvent]()
        with pytest.raises(BuildFailed) as failed:
            await bench.build(builder, bench.failing, events)
        assert failed.value.message == bench.failure and failed.value.hint
        assert LOG_LINE not in f"{failed.value.message}{failed.value.hint}", "clients have the log from the events"
        assert events[-1].line == LOG_LINE or not bench.logs
        assert await builder.find(bench.failing) is None
        assert bench.left() == []

    async def test_a_build_that_is_cancelled_leaves_nothing(self, bench: BuilderBench) -> None:
        builder, running = bench.builder(), asyncio.Event()

        async def build() -> None:
            async for event in builder.build(bench.endless):
                if bench.is_running(event):
                    running.set()

        task = asyncio.create_task(build())
        await asyncio.wait_for(running.wait(), 60)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await builder.find(bench.endless) is None
        assert bench.left() == []
