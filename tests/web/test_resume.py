"""Test that a client which lost its connection resumes its own launch, and that nobody else does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

import aiohttp
import pytest

from pangeo_binder.errors import QuotaExceeded
from pangeo_binder.events import Event, Phase
from pangeo_binder.model import Click
from pangeo_binder.web.limits import Limits
from pangeo_binder.web.resume import Followed, Launches, ResumeLimits
from tests.web.test_stream import BUILD, SSE, Stream, events_of
from tests.web.webapp import WebApp, exactly

READY = Event(Phase.READY, "Ready.\n", url="/user/sst-abc/", token="s3cret")


class StepwiseLaunch:
    """Launch that yields one event, and the others after `go_on`; it counts clicks, and how they end."""

    def __init__(self, *rest: Event | Exception) -> None:
        self.rest = rest or (Event(Phase.BUILDING, "two\n"), READY)
        self.go_on = asyncio.Event()
        self.closed = asyncio.Event()
        self.clicks: list[Click] = []
        self.delivered: list[bool] = []

    async def __call__(self, click: Click) -> AsyncGenerator[Event, None]:
        self.clicks.append(click)
        delivered = False
        try:
            yield Event(Phase.WAITING, "one\n")
            await self.go_on.wait()
            for each in self.rest:
                if isinstance(each, Exception):
                    raise each
                yield each
            delivered = True
        finally:
            self.delivered.append(delivered)
            self.closed.set()


def ids_of(text: str) -> list[str]:
    return [line.removeprefix("id: ") for line in text.splitlines() if line.startswith("id: ")]


async def first_id(http: aiohttp.ClientSession, url: str) -> str:
    """Open a launch, read its first event, lose the connection, and return the event's id."""
    response = await http.get(exactly(url), headers=SSE)
    await response.content.readline()
    id_ = (await response.content.readline()).decode().strip().removeprefix("id: ")
    response.close()
    return id_


def patient(web: WebApp, launch: StepwiseLaunch, **limits: float) -> str:
    return web.start(launch, resume=ResumeLimits(**{"grace_seconds": 3600, **limits})) + BUILD


async def test_every_event_has_an_id_that_cannot_be_guessed(web: WebApp, stream: Stream) -> None:
    launch = StepwiseLaunch()
    launch.go_on.set()
    url = web.start(launch) + BUILD
    first, second = ids_of(await stream(url)), ids_of(await stream(url))
    keys = {id_.partition(".")[0] for id_ in first}
    assert [id_.partition(".")[2] for id_ in first] == ["1", "2", "3"]
    assert len(keys) == 1 and len(keys.pop()) == 32 and not set(first) & set(second)


async def test_a_client_resumes_its_own_launch(web: WebApp, http: aiohttp.ClientSession, stream: Stream) -> None:
    launch = StepwiseLaunch()
    url = patient(web, launch)
    id_ = await first_id(http, url)
    asyncio.get_running_loop().call_later(0.1, launch.go_on.set)
    events = events_of(await stream(url, **{"Last-Event-ID": id_}))
    assert [event["message"] for event in events] == ["two\n", "Ready.\n"] and events[-1]["token"] == "s3cret"
    assert len(launch.clicks) == 1 and launch.delivered == [True]


async def test_the_last_event_can_be_read_again(web: WebApp, stream: Stream) -> None:
    launch = StepwiseLaunch()
    launch.go_on.set()
    url = patient(web, launch)
    *_, before, last = ids_of(await stream(url))
    for id_ in (before, last):
        (event,) = events_of(await stream(url, **{"Last-Event-ID": id_}))
        assert event["token"] == "s3cret"
    assert len(launch.clicks) == 1


async def test_a_failure_can_be_read_after_the_launch(web: WebApp, http: aiohttp.ClientSession, stream: Stream) -> None:
    launch = StepwiseLaunch(QuotaExceeded("All servers are taken.", "Try again later."))
    url = patient(web, launch)
    id_ = await first_id(http, url)
    launch.go_on.set()
    await asyncio.wait_for(launch.closed.wait(), 10)
    (event,) = events_of(await stream(url, **{"Last-Event-ID": id_}))
    assert event["reason"] == "quota_exceeded" and len(launch.clicks) == 1


async def test_without_a_connection_a_launch_ends_after_its_grace(
    web: WebApp, http: aiohttp.ClientSession, stream: Stream
) -> None:
    launch = StepwiseLaunch()
    url = patient(web, launch, grace_seconds=0.05)
    id_ = await first_id(http, url)
    await asyncio.wait_for(launch.closed.wait(), 10)
    assert launch.delivered == [False]
    launch.go_on.set()
    events = events_of(await stream(url, **{"Last-Event-ID": id_}))
    assert events[0]["message"] == "one\n" and len(launch.clicks) == 2, "an id that is gone starts a launch"


@pytest.mark.parametrize(
    ("path", "id_"),
    [
        (BUILD, ""),
        (BUILD, "{key}"),
        (BUILD, "{key}."),
        (BUILD, "{key}.x"),
        (BUILD, "{key}.1234567890123"),
        (BUILD, "A" * 32 + ".1"),
        (BUILD, "{other}.1"),
        (BUILD, "x" * 9000),
        (BUILD.replace("/main", "/other"), "{key}.1"),
        (BUILD + "?build_only=true", "{key}.1"),
    ],
)
async def test_a_wrong_id_starts_a_new_launch(
    web: WebApp, http: aiohttp.ClientSession, stream: Stream, path: str, id_: str
) -> None:
    launch = StepwiseLaunch()
    url = patient(web, launch)
    key = (await first_id(http, url)).partition(".")[0]
    launch.go_on.set()
    asked = {"Last-Event-ID": id_.format(key=key, other=key.swapcase())}
    text = await stream(url.removesuffix(BUILD) + path, **asked)
    assert len(launch.clicks) == 2 and key not in text and events_of(text)[0]["message"] == "one\n"


async def test_an_id_gives_nothing_to_who_may_not_launch(web: WebApp, stream: Stream) -> None:
    launch = StepwiseLaunch()
    launch.go_on.set()
    url = patient(web, launch)
    last = ids_of(await stream(url))[-1]
    for headers in ({"Origin": "https://evil.example"}, {"Accept": "text/html"}):
        text = await stream(url, **{"Last-Event-ID": last, **headers})
        assert "s3cret" not in text and events_of(text)[0]["phase"] == "failed"


async def test_resuming_needs_no_new_build_token(web: WebApp, http: aiohttp.ClientSession, stream: Stream) -> None:
    launch = StepwiseLaunch()
    changes = {"limits": Limits("key", rate_limit=1), "resume": ResumeLimits(grace_seconds=3600)}
    url = web.start(launch, **changes) + BUILD
    id_ = await first_id(http, url)
    launch.go_on.set()
    assert events_of(await stream(url, **{"Last-Event-ID": id_}))[-1]["phase"] == "ready"
    assert events_of(await stream(url))[-1]["reason"] == "quota_exceeded"


async def test_the_newest_connection_takes_over(web: WebApp, http: aiohttp.ClientSession, stream: Stream) -> None:
    launch = StepwiseLaunch()
    url = patient(web, launch)
    async with http.get(exactly(url), headers=SSE) as old:
        await old.content.readline()
        id_ = (await old.content.readline()).decode().strip().removeprefix("id: ")
        asyncio.get_running_loop().call_later(0.1, launch.go_on.set)
        assert events_of(await stream(url, **{"Last-Event-ID": id_}))[-1]["phase"] == "ready"
        assert events_of((await old.content.read()).decode()) == []


async def test_a_page_that_is_reloaded_continues_its_launch(web: WebApp, http: aiohttp.ClientSession) -> None:
    """It says that it leaves, as a page that is closed does, and comes back within `closed_seconds`."""
    launch = StepwiseLaunch()
    url = patient(web, launch, closed_seconds=1)
    id_ = await first_id(http, url)
    async with http.delete(exactly(url), headers={"Last-Event-ID": id_}):
        pass
    async with http.get(exactly(url), headers={**SSE, "Last-Event-ID": f"{id_.partition('.')[0]}.0"}) as resumed:
        await resumed.content.readline()
        assert (await resumed.content.readline()).decode().strip() == f"id: {id_.partition('.')[0]}.1"
        await asyncio.sleep(1.5)
        assert not launch.closed.is_set() and len(launch.clicks) == 1
        async with http.delete(exactly(url), headers={"Last-Event-ID": id_}):
            pass
    await asyncio.wait_for(launch.closed.wait(), 10)


async def test_a_page_that_is_closed_ends_its_launch_soon(web: WebApp, http: aiohttp.ClientSession) -> None:
    launch = StepwiseLaunch()
    url = patient(web, launch)
    id_ = await first_id(http, url)
    for wrong in ("", "A" * 32 + ".1"):
        async with http.delete(exactly(url), headers={"Last-Event-ID": wrong}) as response:
            assert response.status == 204
    assert not launch.closed.is_set()
    async with http.delete(exactly(url), headers={"Last-Event-ID": id_}) as response:
        assert response.status == 204
    await asyncio.wait_for(launch.closed.wait(), 10)


async def test_a_launch_that_has_arrived_is_not_ended(web: WebApp, http: aiohttp.ClientSession, stream: Stream) -> None:
    launch = StepwiseLaunch()
    launch.go_on.set()
    url = patient(web, launch)
    last = ids_of(await stream(url))[-1]
    async with http.delete(exactly(url), headers={"Last-Event-ID": last}) as response:
        assert response.status == 204
    assert launch.delivered == [True]


async def read(launches: Launches, followed: Followed, position: int = 0) -> list[tuple[str, Event]]:
    return [each async for events in launches.follow(followed, position) for each in events]


async def lost(launches: Launches, launch: StepwiseLaunch, network: str) -> Followed:
    """A launch that has lost its connection."""
    followed = launches.start("git/x/main", network, launch(Click("git", "x/main", network, "/")), "test")
    events = launches.follow(followed, 0)
    await anext(events)
    await events.aclose()
    return followed


async def ended(followed: Followed) -> None:
    async with asyncio.timeout(20):
        while not followed.ended:  # noqa: ASYNC110 (nothing but a reader is woken)
            await asyncio.sleep(0)


async def test_the_events_of_the_time_without_a_connection_follow() -> None:
    launch, launches = StepwiseLaunch(), Launches(ResumeLimits())
    followed = await lost(launches, launch, "192.0.2.1")
    launch.go_on.set()
    await ended(followed)
    assert not launch.closed.is_set(), "a launch whose last event nobody has is not over"
    assert [event.message for _, event in await read(launches, followed, 1)] == ["two\n", "Ready.\n"]
    await asyncio.wait_for(launch.closed.wait(), 10)
    assert launch.delivered == [True]


async def test_the_last_event_counts_as_arrived_only_after_all_others_were_sent() -> None:
    launch, launches = StepwiseLaunch(), Launches(ResumeLimits())
    launch.go_on.set()
    followed = launches.start("git/x/main", "192.0.2.1", launch(Click("git", "x/main", "", "/")), "test")
    async with aclosing(launches.follow(followed, 0)) as events:
        assert [event.message for _, event in await anext(events)] == ["one\n", "two\n"]
        assert followed.ended and not followed.arrived
        assert [event for _, event in await anext(events)] == [READY] and followed.arrived


async def test_a_server_whose_token_nobody_got_is_given_up() -> None:
    launch, launches = StepwiseLaunch(), Launches(ResumeLimits(grace_seconds=0.1))
    await lost(launches, launch, "192.0.2.1")
    launch.go_on.set()
    await asyncio.wait_for(launch.closed.wait(), 10)
    assert launch.delivered == [False]


async def test_so_many_launches_continue_without_a_connection() -> None:
    launch = StepwiseLaunch()
    launches = Launches(ResumeLimits(waiting=3, waiting_of_network=2))
    one, two, three = [await lost(launches, launch, "192.0.2.1") for _ in range(3)]
    others = [await lost(launches, launch, f"198.51.100.{number}") for number in range(2)]
    running = [one, two, three, *others]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert [each.task is not None and each.task.done() for each in running] == [True, True, False, False, False]


async def test_so_many_launches_that_ended_are_kept() -> None:
    launch = StepwiseLaunch()
    launch.go_on.set()
    launches = Launches(ResumeLimits(ended=2))
    keys = []
    for _ in range(3):
        followed = launches.start("git/x/main", "192.0.2.1", launch(Click("git", "x/main", "", "/")), "test")
        keys += [(await read(launches, followed))[-1][0]]
        assert followed.task is not None
        await followed.task
    await asyncio.sleep(0)
    assert [launches.find(key, "git/x/main") is not None for key in keys] == [False, True, True]


async def test_a_long_log_is_whole_for_a_reader_and_cut_for_one_who_was_away() -> None:
    lines = [Event(Phase.BUILDING, f"{number}\n") for number in range(2000)]
    launch = StepwiseLaunch(*lines, READY)
    launch.go_on.set()
    launches = Launches(ResumeLimits())
    click = Click("git", "x/main", "", "/")
    followed = launches.start("git/x/main", "192.0.2.1", launch(click), "test")
    assert [event for _, event in await read(launches, followed)][1:] == [*lines, READY]
    away = await lost(launches, launch, "192.0.2.1")
    await ended(away)
    seen = [event for _, event in await read(launches, away, 1)]
    assert seen[0] == replace(seen[1], message="... 1501 lines are left out here ...\n") and seen[-1] == READY
