"""The event stream: what BinderHub's clients see, and what happens when they leave."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest

from pangeo_binder.errors import QuotaExceeded
from pangeo_binder.events import Event, Phase
from pangeo_binder.model import Click
from pangeo_binder.web.context import StreamTimes
from pangeo_binder.web.limits import Limits
from tests.web.face import Face, SmallLaunch, exactly, good_events

BUILD = "/build/git/https%3A%2F%2Fexample.org%2Fsst/main"
SSE = {"Accept": "text/event-stream"}
Stream = Callable[..., Awaitable[str]]


def events_of(text: str) -> list[dict[str, Any]]:
    return [json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line.startswith("data: ")]


def happy() -> SmallLaunch:
    return SmallLaunch(good_events("/user/sst-abc/"))


async def build_token(http: aiohttp.ClientSession, url: str) -> str:
    async with http.get(exactly(url + BUILD.replace("/build/", "/v2/"))) as response:
        page = await response.text()
    return page.partition("build_token=")[2].partition('"')[0]


async def refused(stream: Stream, url: str, **headers: str) -> dict[str, Any]:
    (event,) = events_of(await stream(url, **headers))
    assert event["phase"] == "failed"
    return event


async def test_a_launch_from_the_first_event_to_the_token(face: Face, stream: Stream) -> None:
    launch = happy()
    url = face.start(launch)
    events = events_of(await stream(url + BUILD))
    assert [events[0]["phase"], events[-1]["phase"]] == ["waiting", "ready"]
    assert (events[-1]["url"], events[-1]["token"]) == ("/user/sst-abc/", "s3cret")
    assert launch.asked == [Click("git", BUILD.removeprefix("/build/git/"), "127.0.0.1", f"{url}/")]
    assert launch.closed.is_set()


async def test_nothing_between_holds_the_stream_back(face: Face, http: aiohttp.ClientSession) -> None:
    async with http.get(exactly(face.start(happy()) + BUILD), headers=SSE) as response:
        assert response.content_type == "text/event-stream"
        assert response.headers["Cache-Control"] == "no-cache"
        assert response.headers["X-Accel-Buffering"] == "no"


async def test_events_come_one_by_one(face: Face, http: aiohttp.ClientSession) -> None:
    launch = SmallLaunch([Event(Phase.WAITING, "one\n"), Event(Phase.WAITING, "two\n")], stays_seconds=3600)
    async with http.get(exactly(face.start(launch) + BUILD), headers=SSE) as response:
        assert b"one" in await asyncio.wait_for(response.content.readline(), 10)


async def test_a_quiet_stream_is_kept_alive_and_lingers(face: Face, stream: Stream) -> None:
    text = await stream(face.start(happy(), stream=StreamTimes(0.05, 0.5)) + BUILD)
    after_the_end = text.partition('"token"')[2]
    assert ":keepalive\n\n" in after_the_end


async def test_a_client_that_leaves_closes_its_launch(face: Face, http: aiohttp.ClientSession) -> None:
    launch = SmallLaunch([Event(Phase.WAITING, "one\n")], stays_seconds=3600)
    response = await http.get(exactly(face.start(launch) + BUILD), headers=SSE)
    await response.content.readline()
    assert not launch.closed.is_set()
    response.close()
    await asyncio.wait_for(launch.closed.wait(), 10)


async def test_the_launch_is_closed_before_the_stream_lingers(face: Face, http: aiohttp.ClientSession) -> None:
    launch = happy()
    async with http.get(exactly(face.start(launch, stream=StreamTimes(15, 3600)) + BUILD), headers=SSE) as response:
        while b'"ready"' not in await response.content.readline():
            pass
        await asyncio.wait_for(launch.closed.wait(), 10)


async def test_a_user_error_is_an_event(face: Face, stream: Stream) -> None:
    async def full(click: Click) -> AsyncGenerator[Event, None]:
        yield Event(Phase.WAITING, "Looking.\n")
        raise QuotaExceeded("All servers are taken.", "Try again later.")

    first, last = events_of(await stream(face.start(full) + BUILD))
    assert first["phase"] == "waiting"
    assert last == {
        "phase": "failed",
        "message": "All servers are taken.\n",
        "hint": "Try again later.",
        "reason": "quota_exceeded",
    }


async def test_a_bug_is_an_event_without_its_insides(
    face: Face, stream: Stream, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(click: Click) -> AsyncGenerator[Event, None]:
        yield Event(Phase.WAITING, "Looking.\n")
        raise KeyError("password")

    text = await stream(face.start(broken) + BUILD + "?build_token=s3cret")
    event = events_of(text)[-1]
    assert event["phase"] == "failed" and "password" not in text
    assert f"[{event['reason']}]" in caplog.text and "KeyError" in caplog.text and "s3cret" not in caplog.text


async def test_a_launch_that_just_stops_is_a_failure(face: Face, stream: Stream) -> None:
    events = events_of(await stream(face.start(SmallLaunch([Event(Phase.WAITING, "x\n")])) + BUILD))
    assert [event["phase"] for event in events] == ["waiting", "failed"]


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("/build/zenodo/10.5281", "does not know"),
        (BUILD + "?build_only=true", "without launching"),
        (BUILD + "?build_token=%ff", "cannot be answered"),
    ],
)
async def test_refusals_are_events(face: Face, stream: Stream, path: str, sentence: str) -> None:
    launch = happy()
    assert sentence in (await refused(stream, face.start(launch) + path))["message"]
    assert not launch.asked


@pytest.mark.parametrize("accept", ["*/*", "image/avif,*/*", "text/html"])
async def test_only_event_streams_launch(face: Face, stream: Stream, accept: str) -> None:
    launch = happy()
    await refused(stream, face.start(launch) + BUILD, Accept=accept)
    assert not launch.asked


async def test_other_methods_are_refused_within_the_stream(face: Face, http: aiohttp.ClientSession) -> None:
    async with http.post(face.start(happy()) + BUILD, headers=SSE) as response:
        assert response.status == 200 and events_of(await response.text())[0]["phase"] == "failed"


async def test_the_rate_spares_launch_pages(face: Face, http: aiohttp.ClientSession, stream: Stream) -> None:
    url = face.start(happy(), limits=Limits("key", rate_limit=1))
    token = await build_token(http, url)
    assert events_of(await stream(url + BUILD))[-1]["phase"] == "ready"
    assert (await refused(stream, url + BUILD))["reason"] == "quota_exceeded"
    assert (await refused(stream, url + BUILD + "?build_token=forged"))["reason"] == "quota_exceeded"
    assert events_of(await stream(f"{url}{BUILD}?build_token={token}"))[-1]["phase"] == "ready"
    assert events_of(await stream(url + BUILD, **{"X-Forwarded-For": "192.0.2.1"}))[-1]["phase"] == "ready"


async def test_where_a_token_is_required(face: Face, http: aiohttp.ClientSession, stream: Stream) -> None:
    url = face.start(happy(), limits=Limits("key", require_build_token=True))
    token = await build_token(http, url)
    assert (await refused(stream, url + BUILD))["reason"] == "not_allowed"
    other = url + BUILD.replace("/main", "/other")
    assert (await refused(stream, f"{other}?build_token={token}"))["reason"] == "not_allowed"
    assert events_of(await stream(f"{url}{BUILD}?build_token={token}"))[-1]["phase"] == "ready"


async def test_a_banned_network(face: Face, stream: Stream) -> None:
    launch = happy()
    url = face.start(launch, limits=Limits("key", banned_networks=("127.0.0.1/32",)))
    assert (await refused(stream, url + BUILD))["reason"] == "not_allowed"
    assert not launch.asked


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://[::"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"},
    ],
)
async def test_another_site_may_not_launch(face: Face, stream: Stream, headers: dict[str, str]) -> None:
    launch = happy()
    await refused(stream, face.start(launch) + BUILD, **headers)
    assert not launch.asked


async def test_our_own_page_may_launch(face: Face, stream: Stream) -> None:
    url = face.start(happy())
    events = events_of(await stream(url + BUILD, **{"Sec-Fetch-Site": "same-origin", "Origin": url}))
    assert events[-1]["phase"] == "ready"


async def test_another_site_may_launch_where_allowed(face: Face, http: aiohttp.ClientSession) -> None:
    launch = happy()
    url = face.start(launch, limits=Limits("key", cors_allow_origin="https://thebe.example")) + BUILD
    headers = {**SSE, "Sec-Fetch-Site": "cross-site", "Origin": "https://thebe.example"}
    async with http.get(url, headers=headers) as response:
        assert response.headers["Access-Control-Allow-Origin"] == "https://thebe.example"
        assert events_of(await response.text())[-1]["phase"] == "ready"
    assert len(launch.asked) == 1
    async with http.options(url, headers={"Origin": "https://evil.example"}) as response:
        assert response.status == 204 and "Access-Control-Allow-Origin" not in response.headers
