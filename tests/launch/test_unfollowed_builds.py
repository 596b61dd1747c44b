"""Builds that nobody follows: they end after a grace and give their slot back, and who comes back joins them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from pangeo_binder.builders.base import BuildEvent, BuildSettings
from pangeo_binder.errors import QuotaExceeded
from pangeo_binder.events import Event, Phase
from pangeo_binder.launch.builds import SharedBuilds
from pangeo_binder.launch.pipeline import Collaborators, Pipeline
from pangeo_binder.launch.turns import IN_ADVANCE, Asker, BuildShares
from pangeo_binder.model import Click, Repo, RepoRef
from tests.launch.conftest import QuickBuilder, click_on
from tests.stack.repository import repository

GRACE_SECONDS = 0.3


class SlowBuilder(QuickBuilder):
    """Ends only the builds that a test names, and knows which run."""

    def __init__(self, settings: BuildSettings) -> None:
        super().__init__(settings)
        self.running: list[str] = []
        self.may_end: dict[str, asyncio.Event] = {}

    def let(self, name: str) -> None:
        self.may_end.setdefault(name, asyncio.Event()).set()

    async def make(self, repo: Repo) -> AsyncGenerator[BuildEvent, None]:
        self.running.append(repo.ref.name)
        try:
            yield BuildEvent(Phase.BUILDING, "Making it")
            await self.may_end.setdefault(repo.ref.name, asyncio.Event()).wait()
            async with aclosing(super().make(repo)) as making:
                async for event in making:
                    yield event
        finally:
            self.running.remove(repo.ref.name)

    async def discard(self, repo: Repo) -> None:
        await asyncio.sleep(0.05)
        await super().discard(repo)


NewBuilds = Callable[..., SharedBuilds]


@pytest.fixture
def slow(tmp_path: Path) -> SlowBuilder:
    return SlowBuilder(BuildSettings(tmp_path / "cache", min_free_bytes=0))


@pytest.fixture
async def new_builds(slow: SlowBuilder) -> AsyncIterator[NewBuilds]:
    """Make the builds of a binder with shares."""
    made: list[SharedBuilds] = []

    def make(**shares: float) -> SharedBuilds:
        made.append(SharedBuilds(slow, BuildShares(**{"grace_seconds": GRACE_SECONDS, **shares})))
        return made[-1]

    yield make
    for each in made:
        await each.stop()


def repo(name: str, revision: str = "") -> Repo:
    return Repo(RepoRef("git", f"https://example.org/{name}", "main"), revision or name.encode().hex().ljust(40, "0"))


class Follower:
    """Follows one build in the background until it leaves."""

    def __init__(self, builds: SharedBuilds, name: str, network: str = "a", asker: Asker | None = None) -> None:
        self.events: list[Event] = []
        self.asker = asker or Asker(network, name)
        self.task = asyncio.create_task(self._follow(builds, repo(name)))

    async def _follow(self, builds: SharedBuilds, of: Repo) -> None:
        async with aclosing(builds.follow(of, self.asker)) as events:
            async for event in events:
                self.events.append(event)

    @property
    def positions(self) -> list[int]:
        return [event.position for event in self.events if event.position]

    async def leave(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    async def sees(self, message: str) -> None:
        await until(lambda: any(event.message.startswith(message) for event in self.events))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 (a condition of several parts)
            await asyncio.sleep(0.01)


def counted(outcome: str) -> float:
    return REGISTRY.get_sample_value("pangeo_binder_builds_total", {"outcome": outcome}) or 0


def gauges() -> tuple[float | None, float | None]:
    names = ("pangeo_binder_builds_in_progress", "pangeo_binder_builds_waiting")
    running, waiting = (REGISTRY.get_sample_value(name) for name in names)
    return running, waiting


async def test_two_links_that_are_opened_and_closed_do_not_block_a_third(
    collaborators: Collaborators, tmp_path: Path, slow: SlowBuilder, new_builds: NewBuilds
) -> None:
    pipeline = Pipeline(replace(collaborators, builds=new_builds()))
    for name in ("one", "two", "three"):
        repository(tmp_path / name, {"README.md": name})
    for name in ("one", "two"):
        async with aclosing(pipeline.run(click_on(tmp_path / name))) as events:
            async for event in events:
                if event.phase is Phase.BUILDING:
                    break
    assert slow.running == ["one", "two"]
    slow.let("three")
    async with asyncio.timeout(20), aclosing(pipeline.run(click_on(tmp_path / "three"))) as events:
        assert [event.phase async for event in events][-1] is Phase.READY
    await until(lambda: slow.running == [] and slow.discarded == 2)


async def test_a_launch_that_waits_for_a_slot_sees_its_position_and_leaves_the_queue_at_once(
    collaborators: Collaborators, click: Click, slow: SlowBuilder, new_builds: NewBuilds
) -> None:
    builds = new_builds(concurrent=1, grace_seconds=60)
    running = Follower(builds, "running")
    await running.sees("Making it")
    pipeline = Pipeline(replace(collaborators, builds=builds))
    async with aclosing(pipeline.run(click)) as events:
        async for event in events:
            if event.position:
                break
    assert event.phase is Phase.WAITING
    assert event.message == "Every build slot is taken. You are number 1 in the queue.\n"
    await until(lambda: gauges() == (1, 0))
    slow.let("running")
    await running.task
    assert slow.made == 1, "a build that left the queue never begins"


async def test_positions_only_fall(slow: SlowBuilder, new_builds: NewBuilds) -> None:
    builds = new_builds(concurrent=1)
    followers = [Follower(builds, f"sea{number}", "a") for number in range(4)]
    await until(lambda: followers[3].positions == [3])
    newcomer = Follower(builds, "ice", "b")
    await until(lambda: newcomer.positions == [1])
    names = ["sea0", "ice", "sea1", "sea2", "sea3"]
    for name in names:
        await until(lambda name=name: slow.running == [name])
        slow.let(name)
    await asyncio.gather(*(each.task for each in (*followers, newcomer)))
    assert [each.positions for each in followers] == [[], [1], [2, 1], [3, 2, 1]]
    assert newcomer.positions == [1]
    assert gauges() == (0, 0)


async def test_who_comes_back_within_the_grace_joins_the_build(slow: SlowBuilder, new_builds: NewBuilds) -> None:
    builds = new_builds(grace_seconds=60)
    first = Follower(builds, "sea")
    await first.sees("Making it")
    await first.leave()
    again = Follower(builds, "sea", "b")
    await again.sees("Making it")
    slow.let("sea")
    await again.task
    assert again.events[-1].phase is Phase.BUILT and (slow.made, slow.discarded) == (1, 0)


async def test_coming_back_stops_the_grace_and_leaving_again_starts_it_anew(
    slow: SlowBuilder, new_builds: NewBuilds
) -> None:
    builds = new_builds()
    before = counted("unfollowed")
    first = Follower(builds, "sea")
    await first.sees("Making it")
    await first.leave()
    again = Follower(builds, "sea")
    await again.sees("Making it")
    await asyncio.sleep(2 * GRACE_SECONDS)
    assert slow.running == ["sea"]
    await again.leave()
    await until(lambda: slow.running == [])
    await until(lambda: counted("unfollowed") == before + 1)


async def test_who_comes_while_an_unfollowed_build_ends_gets_a_new_one(
    slow: SlowBuilder, new_builds: NewBuilds
) -> None:
    builds = new_builds(grace_seconds=0)
    first = Follower(builds, "sea")
    await first.sees("Making it")
    await first.leave()
    await until(lambda: slow.running == [])  # it is being discarded
    assert slow.discarded == 0
    again = Follower(builds, "sea")
    await again.sees("Making it")
    assert slow.discarded == 1
    slow.let("sea")
    await again.task
    assert again.events[-1].phase is Phase.BUILT


async def test_an_ending_build_holds_its_slot_until_it_has_ended(slow: SlowBuilder, new_builds: NewBuilds) -> None:
    builds = new_builds(concurrent=1, grace_seconds=0)
    first = Follower(builds, "sea")
    await first.sees("Making it")
    await first.leave()
    second = Follower(builds, "ice", "b")
    await second.sees("Making it")
    assert slow.discarded == 1
    await second.leave()


async def test_a_build_asked_for_in_advance_runs_on_without_followers(slow: SlowBuilder, new_builds: NewBuilds) -> None:
    builds = new_builds(grace_seconds=0)
    first = Follower(builds, "sea")
    await first.sees("Making it")
    early = Follower(builds, "sea", asker=IN_ADVANCE)
    await early.sees("Making it")
    await early.leave()
    await first.leave()
    await asyncio.sleep(0.2)
    assert slow.running == ["sea"] and slow.discarded == 0


async def test_a_build_asked_for_in_advance_keeps_its_place_in_the_queue(
    slow: SlowBuilder, new_builds: NewBuilds
) -> None:
    builds = new_builds(concurrent=1)
    first, early = Follower(builds, "sea"), Follower(builds, "ice", asker=IN_ADVANCE)
    await until(lambda: early.positions == [1])
    await early.leave()
    slow.let("sea")
    await first.task
    await until(lambda: slow.running == ["ice"])


async def test_a_full_queue_refuses_the_launch(slow: SlowBuilder, new_builds: NewBuilds) -> None:
    builds = new_builds(concurrent=1, waiting=1)
    running, waiting = Follower(builds, "sea"), Follower(builds, "ice", "b")
    await until(lambda: waiting.positions == [1])
    with pytest.raises(QuotaExceeded, match="Too many builds are waiting"):
        await anext(builds.follow(repo("air"), Asker("c", "air")))
    await waiting.leave()
    third = Follower(builds, "air", "c")
    await until(lambda: third.positions == [1])
    await third.leave()
    await running.leave()


async def test_opening_and_closing_at_once_leaves_nothing(slow: SlowBuilder, new_builds: NewBuilds) -> None:
    builds = new_builds(concurrent=1, grace_seconds=0)
    followers = [Follower(builds, f"sea{number}") for number in range(9)]
    await asyncio.sleep(0)
    await asyncio.gather(*(each.leave() for each in followers))
    await until(lambda: not builds._running)
    assert gauges() == (0, 0)
