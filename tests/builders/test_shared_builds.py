"""Test that many launches share one build."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path

import pytest

from pangeo_binder.builders.base import Builder, BuildEvent
from pangeo_binder.builders.venv.builder import VenvBuilder
from pangeo_binder.errors import BuildFailed
from pangeo_binder.events import Event, Phase
from pangeo_binder.launch.builds import SharedBuilds
from pangeo_binder.launch.replay import Replay
from pangeo_binder.launch.turns import Asker, BuildShares
from pangeo_binder.model import Environment, Repo, RepoRef, VirtualEnvironment
from tests.builders.test_venv_builder import leftovers

REPO = Repo(RepoRef("git", "https://example.org/sea", "main"), "a" * 40)


class CountedBuilder(Builder):
    """Builder that only writes log lines, waits for `go_on` halfway, and counts its builds."""

    def __init__(self, settings, lines: int = 500, error: Exception | None = None) -> None:
        super().__init__(settings)
        self.lines, self.error = lines, error
        self.made = self.discarded = 0
        self.go_on = asyncio.Event()
        self.ready: Environment | None = None

    async def find(self, repo: Repo) -> Environment | None:
        return self.ready

    async def make(self, repo: Repo) -> AsyncGenerator[BuildEvent, None]:
        self.made += 1
        for number in range(self.lines):
            if number == self.lines // 2:
                await self.go_on.wait()
            await asyncio.sleep(0)
            yield BuildEvent(Phase.BUILDING, f"line {number}")
        if self.error:
            raise self.error
        self.ready = VirtualEnvironment("id", "prefix", "checkout")
        yield BuildEvent(Phase.BUILT, "done", self.ready)

    async def discard(self, repo: Repo) -> None:
        self.discarded += 1


async def follow(builds: SharedBuilds, repo: Repo = REPO) -> list[str]:
    return [f"{event.phase} {event.message}" async for event in builds.follow(repo)]


@pytest.mark.processes
async def test_twenty_followers_share_one_real_build(settings, repo_of):
    builds, repo = SharedBuilds(VenvBuilder(settings)), repo_of({"postBuild": "echo once >> log.txt\n"})
    logs = await asyncio.gather(*(follow(builds, repo) for _ in range(20)))
    assert all(log == logs[0] for log in logs) and len(logs[0]) > 10
    environment = await builds.find(repo)
    assert environment and logs[0][-1] == "built The environment is ready.\n"
    assert Path(environment.checkout, "log.txt").read_text() == "once\n"
    assert await follow(builds, repo) == ["built The environment is ready.\n"]


async def test_late_followers_get_the_whole_log(settings):
    builder = CountedBuilder(settings)
    builds = SharedBuilds(builder)
    early = [asyncio.create_task(follow(builds)) for _ in range(50)]
    await asyncio.sleep(0.1)
    late = [asyncio.create_task(follow(builds)) for _ in range(50)]
    builder.go_on.set()
    logs = await asyncio.gather(*early, *late)
    wanted = [f"building line {number}\n" for number in range(500)]
    assert all(log == [*wanted, "built The environment is ready.\n"] for log in logs)
    assert builder.made == 1


async def test_a_follower_that_leaves_does_not_end_the_build(settings):
    builder = CountedBuilder(settings)
    builds = SharedBuilds(builder)
    async with aclosing(builds.follow(REPO)) as following:
        assert (await anext(following)).message == "line 0\n"
    builder.go_on.set()
    assert (await follow(builds))[-1].startswith("built")
    assert builder.made == 1 and builder.discarded == 0


async def test_all_followers_get_a_failure_and_the_next_launch_builds_again(settings):
    builder = CountedBuilder(settings, error=BuildFailed("It broke.", "Correct it."))
    builder.go_on.set()
    builds = SharedBuilds(builder)
    outcomes = await asyncio.gather(*(follow(builds) for _ in range(5)), return_exceptions=True)
    assert all(isinstance(each, BuildFailed) and each.message == "It broke." for each in outcomes)
    assert all(each.hint == "Correct it." for each in outcomes)
    builder.error = None
    assert (await follow(builds))[-1].startswith("built")
    assert (builder.made, builder.discarded) == (2, 1)


async def test_followers_see_only_the_id_of_an_internal_error(settings, caplog):
    builder = CountedBuilder(settings, error=KeyError("secret"))
    builder.go_on.set()
    with caplog.at_level(logging.ERROR), pytest.raises(BuildFailed) as caught:
        await follow(SharedBuilds(builder))
    id_ = caught.value.hint.rstrip(".").rsplit(" ", 1)[-1]
    assert "secret" not in str(caught.value) and id_ in caplog.text


async def test_stopping_ends_builds_and_notifies_followers(settings):
    builder = CountedBuilder(settings)
    builds = SharedBuilds(builder)
    following = asyncio.create_task(follow(builds))
    await asyncio.sleep(0.1)
    await builds.stop()
    with pytest.raises(BuildFailed, match="this binder is stopping"):
        await following
    assert builder.discarded == 1
    with pytest.raises(BuildFailed, match="this binder is stopping"):
        await follow(builds)


async def test_stopping_before_a_build_starts_notifies_its_followers(settings):
    builds = SharedBuilds(CountedBuilder(settings))
    following = builds.follow(REPO)
    first = asyncio.ensure_future(anext(following))
    await asyncio.sleep(0)
    await builds.stop()
    with pytest.raises(BuildFailed, match="this binder is stopping"):
        await first


def events(first: int, last: int) -> list[Event]:
    return [Event(Phase.BUILDING, f"{number}\n") for number in range(first, last)]


async def test_a_long_log_keeps_its_first_and_last_lines():
    replay = Replay(keep=10)
    for event in events(0, 30):
        replay.add(event)
    found, position = replay.since(0)
    left_out = Event(Phase.BUILDING, "... 20 lines are left out here ...\n")
    assert found == [*events(0, 5), left_out, *events(25, 30)] and position == 30
    assert replay.since(28) == (events(28, 30), 30) and replay.since(30) == ([], 30)
    assert replay.since(10)[0] == [Event(Phase.BUILDING, "... 15 lines are left out here ...\n"), *events(25, 30)]


async def test_lines_of_a_fast_build_wake_followers_together():
    replay, parts = Replay(), []

    async def read():
        position = 0
        while position < 100:
            await replay.grown(position)
            found, position = replay.since(position)
            parts.append(found)

    reading = asyncio.create_task(read())
    for event in events(0, 100):
        await asyncio.sleep(0)
        replay.add(event)
    await asyncio.wait_for(reading, 10)
    assert [event for part in parts for event in part] == events(0, 100)
    assert len(parts[0]) == 1 and len(parts) < 50


@pytest.mark.processes
async def test_an_unfollowed_build_leaves_neither_processes_nor_files(settings, repo_of):
    builder = VenvBuilder(settings)
    builds = SharedBuilds(builder, BuildShares(concurrent=1, grace_seconds=0.2))
    endless = repo_of({"postBuild": "echo now\nsetsid sleep 1003 &\nsleep 1004\n"})
    async with aclosing(builds.follow(endless, Asker("a", "endless"))) as following:
        async for event in following:
            if event.message == "now\n":
                break
    assert len(leftovers(settings)) > 2
    after = repo_of({"postBuild": "echo after\n"})
    async with asyncio.timeout(60), aclosing(builds.follow(after, Asker("b", "after"))) as following:
        assert [event.phase async for event in following][-1] is Phase.BUILT
    assert leftovers(settings) == [builder.environment_id(after)]
