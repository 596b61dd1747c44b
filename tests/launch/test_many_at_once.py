"""Many clicks at once: one question to the repository's host, no queue if there is room, retries at a busy hub."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web

from pangeo_binder.errors import HubUnavailable, QuotaExceeded, RefNotFound
from pangeo_binder.events import Event
from pangeo_binder.launch import hub as module
from pangeo_binder.launch.hub import Hub
from pangeo_binder.launch.lookups import SharedLookups
from pangeo_binder.launch.pipeline import Collaborators, Pipeline
from pangeo_binder.model import Click, Launch, RepoRef
from pangeo_binder.policy.counters import Reservation
from pangeo_binder.policy.load import load_policy
from pangeo_binder.repos.git import GitProvider
from tests.launch.conftest import POLICY, NewAdmission
from tests.launch.hubserver import SmallHub
from tests.stack.repository import repository


class CountingProvider(GitProvider):
    """Counts how often it is asked."""

    asked = 0

    async def find_revision(self, ref: RepoRef) -> str:
        self.asked += 1
        return await super().find_revision(ref)


@pytest.fixture
def provider() -> CountingProvider:
    return CountingProvider(allow_local=True)


@pytest.fixture
def ref(tmp_path: Path) -> RepoRef:
    return RepoRef("git", repository(tmp_path / "sea", {"README.md": "Sea"}), "main")


async def test_one_question_answers_all(provider: CountingProvider, ref: RepoRef) -> None:
    lookups = SharedLookups()
    found = await asyncio.gather(*(lookups.resolve(provider, ref) for _ in range(20)))
    assert (len(set(found)), provider.asked) == (1, 1)
    await lookups.resolve(provider, ref)
    assert provider.asked == 2, "an answer was remembered"


async def test_another_ref_is_another_question(provider: CountingProvider, ref: RepoRef) -> None:
    lookups, other = SharedLookups(), replace(ref, ref="HEAD")
    await asyncio.gather(lookups.resolve(provider, ref), lookups.resolve(provider, other))
    assert provider.asked == 2


async def test_who_leaves_takes_no_answer_away(provider: CountingProvider, ref: RepoRef) -> None:
    lookups = SharedLookups()
    first = asyncio.create_task(lookups.resolve(provider, ref))
    second = asyncio.create_task(lookups.resolve(provider, ref))
    await asyncio.sleep(0)
    first.cancel()
    assert len((await second).revision) == 40
    assert first.cancelled()


async def test_each_is_told_what_is_wrong(provider: CountingProvider, ref: RepoRef) -> None:
    lookups, wrong = SharedLookups(), replace(ref, ref="nowhere")
    asked = [lookups.resolve(provider, wrong) for _ in range(3)]
    told = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(error) for error in told] == [RefNotFound] * 3
    assert len({id(error) for error in told}) == 3


async def last(pipeline: Pipeline, click: Click) -> Event:
    async with aclosing(pipeline.run(click)) as events:
        return [event async for event in events][-1]


async def test_if_there_is_room_nobody_joins_the_queue(
    collaborators: Collaborators, new_admission: NewAdmission, rest: SmallHub, click: Click, tmp_path: Path
) -> None:
    path = tmp_path / "roomy.yaml"
    path.write_text(POLICY.replace("servers: 1", "servers: 9"))
    rest.go_on.clear()  # all have to wait for the hub's answer
    pipeline = Pipeline(replace(collaborators, admission=new_admission(load_policy(path))))
    launches = [asyncio.create_task(last(pipeline, click)) for _ in range(10)]
    await asyncio.sleep(0.5)  # by now all have come
    rest.go_on.set()
    ended = await asyncio.gather(*launches, return_exceptions=True)
    assert sum(isinstance(end, Event) and end.phase == "ready" for end in ended) == 9
    assert sum(isinstance(end, QuotaExceeded) for end in ended) == 1


async def test_many_clicks_open_few_connections_to_the_hub(rest: SmallHub, hub: Hub) -> None:
    rest.go_on.clear()
    reservations = [Reservation(f"launch{number:06}", {}, ()) for number in range(60)]
    asking = [asyncio.create_task(hub.reserve(wanted)) for wanted in reservations]
    asking += [asyncio.create_task(hub.release(wanted.launch)) for wanted in reservations]
    async with asyncio.timeout(30):
        while len(rest.calls) < 50:  # noqa: ASYNC110 - the calls of a server
            await asyncio.sleep(0.05)
    await asyncio.sleep(0.3)  # others would come meanwhile
    assert len(rest.calls) == 50 and hub._seats.locked()
    rest.go_on.set()
    assert await asyncio.gather(*asking) == [None] * 120 and len(rest.calls) == 120


def busy(launch: Launch) -> dict[str, web.Response]:
    """Return what the hub answers while it starts as many servers as it may."""
    refused = web.json_response({"message": "Too many users trying to log in right now."}, status=429)
    return {f"POST /users/{launch.user}/server": refused}


async def test_a_busy_hub_is_asked_again(
    rest: SmallHub, hub: Hub, launch: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BUSY_LOOK_SECONDS", 0.01)
    rest.broken = busy(launch)
    messages = []
    async with aclosing(hub.start(launch, "a ticket")) as starting:
        async for message in starting:
            messages.append(message)
            rest.broken = {}
    assert messages == ["Many servers are starting, waiting for this one's turn", "Half way"]
    assert rest.servers == {launch.user: "a ticket"}


async def test_retries_at_a_busy_hub_end(
    rest: SmallHub, hub: Hub, launch: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BUSY_SECONDS", 0)
    rest.broken = busy(launch)
    with pytest.raises(HubUnavailable, match="as many servers as it can"):
        async with aclosing(hub.start(launch, "a ticket")) as starting:
            assert [message async for message in starting] == []
    assert not rest.servers
