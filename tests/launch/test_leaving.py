"""A client that leaves: in each phase of a launch, what it held is free at once, for the one seat that there is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest

from pangeo_binder.events import Event, Phase
from pangeo_binder.launch.draining import Draining
from pangeo_binder.launch.pipeline import Collaborators, Pipeline
from pangeo_binder.model import Click
from pangeo_binder.policy.model import Policy
from pangeo_binder.repos.git import GitProvider
from tests.launch.conftest import NewAdmission, QuickBuilder, click_on
from tests.launch.hubserver import SmallHub
from tests.stack.repository import repository


class SlowProvider(GitProvider):
    """Waits before each look-up, and counts those under way."""

    go_on: asyncio.Event
    under_way = 0

    async def find_revision(self, ref) -> str:
        self.under_way += 1
        try:
            await self.go_on.wait()
            return await super().find_revision(ref)
        finally:
            self.under_way -= 1


async def until(what) -> None:
    async with asyncio.timeout(20):
        while not what():  # noqa: ASYNC110 (no event can be set)
            await asyncio.sleep(0.01)


class Client:
    """A client that follows a launch in a task of its own, as a connection does."""

    def __init__(self, pipeline: Pipeline | Draining, click: Click) -> None:
        self.events: list[Event] = []
        self.task = asyncio.create_task(self._follow(pipeline, click))

    async def _follow(self, pipeline: Pipeline | Draining, click: Click) -> None:
        async with aclosing(pipeline.run(click)) as events:
            async for event in events:
                self.events.append(event)

    async def says(self, words: str) -> None:
        await until(lambda: any(words in event.message for event in self.events))

    async def leave(self) -> None:
        self.task.cancel()
        await asyncio.wait({self.task})


@pytest.fixture
async def provider() -> SlowProvider:
    made = SlowProvider(allow_local=True)
    made.go_on = asyncio.Event()
    made.go_on.set()
    return made


@pytest.fixture
async def pipeline(
    collaborators: Collaborators, provider: SlowProvider, new_admission: NewAdmission, policy: Policy
) -> AsyncIterator[Pipeline]:
    made = Pipeline(replace(collaborators, providers=(provider,), admission=new_admission(policy, 60)))
    yield made
    await made.close()


async def ready(pipeline: Pipeline, click: Click) -> None:
    client = Client(pipeline, click)
    await asyncio.wait_for(client.task, 20)
    assert client.events[-1].phase is Phase.READY
    assert not any(event.position for event in client.events), "it had to wait for a seat"


async def test_while_it_is_looked_up(pipeline: Pipeline, click: Click, provider: SlowProvider) -> None:
    provider.go_on.clear()
    client = Client(pipeline, click)
    await until(lambda: provider.under_way == 1)
    await client.leave()
    await until(lambda: provider.under_way == 0)
    provider.go_on.set()
    await ready(pipeline, click)


async def test_while_the_hub_reserves_its_seat(pipeline: Pipeline, click: Click, rest: SmallHub) -> None:
    rest.go_on.clear()
    client = Client(pipeline, click)
    await until(lambda: any(call.startswith("POST /pangeo-binder") for call in rest.calls))
    await client.leave()
    rest.go_on.set()
    await until(lambda: any(call.startswith("DELETE /pangeo-binder") for call in rest.calls))
    await ready(pipeline, click)


async def test_while_it_waits_in_the_queue(pipeline: Pipeline, click: Click, rest: SmallHub) -> None:
    await ready(pipeline, click)
    waiting = [Client(pipeline, click) for _ in range(2)]
    await asyncio.gather(*(client.says("in the queue") for client in waiting))
    for client in waiting:
        await client.leave()
    rest.servers.clear()
    await ready(pipeline, click)


async def test_while_it_builds(pipeline: Pipeline, click: Click, builder: QuickBuilder, tmp_path: Path) -> None:
    builder.go_on.clear()
    client = Client(pipeline, click)
    await client.says("Making it")
    await client.leave()
    repository(tmp_path / "lake", {"README.md": "Lake"})
    other = Client(pipeline, click_on(tmp_path / "lake"))
    await other.says("Making it")  # it has the seat, while the first build runs on for its grace
    assert builder.made == 2
    builder.go_on.set()
    await asyncio.wait_for(other.task, 20)


@pytest.mark.parametrize("answered", [False, True])
async def test_while_its_server_starts(pipeline: Pipeline, click: Click, rest: SmallHub, answered: bool) -> None:
    rest.ends, rest.says = False, rest.says[:1]
    if not answered:
        rest.answers_start.clear()
    client = Client(pipeline, click)
    await (client.says("Half way") if answered else until(lambda: bool(rest.servers)))
    await client.leave()
    await until(lambda: not rest.servers and not rest.users)
    rest.answers_start.set()
    rest.says = ({"progress": 100, "ready": True},)
    await ready(pipeline, click)


async def test_a_launch_that_is_drained_says_so_and_gives_all_back(
    pipeline: Pipeline, click: Click, provider: SlowProvider, rest: SmallHub
) -> None:
    """One that starts its server is let; one that is looked up ends at once, without a last event."""
    rest.says_then = rest.says[1:]
    rest.says = rest.says[:1]
    rest.come_up.clear()
    draining = Draining(pipeline.run)
    starts = Client(draining, click)
    await starts.says("Half way")
    provider.go_on.clear()
    looked_up = Client(draining, click)
    await until(lambda: provider.under_way == 1)
    drained = asyncio.create_task(draining.drain(20))
    await asyncio.wait({looked_up.task}, timeout=20)
    assert looked_up.task.cancelled() and "restarts" in looked_up.events[-1].message
    await until(lambda: provider.under_way == 0)
    assert not drained.done() and draining.begun
    rest.come_up.set()
    await asyncio.wait_for(drained, 20)
    assert starts.events[-1].phase is Phase.READY
