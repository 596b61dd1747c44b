"""Test the event stream: what BinderHub's clients get, and what happens when they disconnect."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest
import requests
from yarl import URL

from pangeo_binder.errors import QuotaExceeded
from pangeo_binder.events import Event, Phase
from pangeo_binder.model import Click, VirtualEnvironment
from pangeo_binder.web.context import StreamTimes
from pangeo_binder.web.handler import Shared
from pangeo_binder.web.limits import Limits
from pangeo_binder.web.stream import BuildStream
from tests.web.webapp import SmallLaunch, WebApp, context_of, exactly, good_events

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


async def test_a_launch_from_the_first_event_to_the_token(web: WebApp, stream: Stream) -> None:
    launch = happy()
    url = web.start(launch)
    events = events_of(await stream(url + BUILD))
    assert [events[0]["phase"], events[-1]["phase"]] == ["waiting", "ready"]
    assert (events[-1]["url"], events[-1]["token"]) == ("/user/sst-abc/", "s3cret")
    assert launch.clicks == [Click("git", BUILD.removeprefix("/build/git/"), "127.0.0.1", f"{url}/", f"{url}/")]
    assert launch.closed.is_set()


async def test_proxies_do_not_buffer_the_stream(web: WebApp, http: aiohttp.ClientSession) -> None:
    async with http.get(exactly(web.start(happy()) + BUILD), headers=SSE) as response:
        assert response.content_type == "text/event-stream"
        assert response.headers["Cache-Control"] == "no-cache"
        assert response.headers["X-Accel-Buffering"] == "no"


async def test_each_event_is_sent_at_once(web: WebApp, http: aiohttp.ClientSession) -> None:
    launch = SmallLaunch([Event(Phase.WAITING, "one\n"), Event(Phase.WAITING, "two\n")], stays_seconds=3600)
    async with http.get(exactly(web.start(launch) + BUILD), headers=SSE) as response:
        assert b"one" in await asyncio.wait_for(response.content.readline(), 10)


async def test_no_event_waits_for_the_receipt_of_the_one_before(web: WebApp, stream: Stream) -> None:
    launch, without_delay = happy(), []

    class WatchedStream(BuildStream):
        async def _send(self, text: str) -> None:
            await super()._send(text)
            connection = self.request.connection.stream.socket  # type: ignore[union-attr]
            without_delay.append(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    watched = ("/build/.*", WatchedStream, {"shared": Shared(context_of(launch))})
    await stream(web.start(launch, more=[watched]) + BUILD)
    assert len(without_delay) > 1 and all(without_delay)


async def test_events_that_are_ready_are_sent_in_parts_of_a_limited_size(web: WebApp, stream: Stream) -> None:
    lines = [Event(Phase.BUILDING, f"{number} {'x' * 4000}\n") for number in range(60)]
    launch, parts = SmallLaunch([*lines, *happy().events]), []

    class WatchedStream(BuildStream):
        async def _send(self, text: str) -> None:
            parts.append(len(text))
            await super()._send(text)

    watched = ("/build/.*", WatchedStream, {"shared": Shared(context_of(launch))})
    messages = [event["message"] for event in events_of(await stream(web.start(launch, more=[watched]) + BUILD))]
    assert messages == [event.message for event in launch.events]
    assert len(parts) < 30 and max(parts) < 21_000


async def test_a_client_that_reads_late_gets_all_events(web: WebApp) -> None:
    """Keepalives are due while its connection takes nothing more."""
    lines = [Event(Phase.BUILDING, f"{number} {'x' * 4000}\n") for number in range(3000)]
    url = web.start(SmallLaunch([*lines, *happy().events]), stream=StreamTimes(0.02, 0.1))
    address = URL(url)
    reader, writer = await asyncio.open_connection(address.host, address.port)
    writer.write(f"GET {BUILD} HTTP/1.1\r\nHost: {address.authority}\r\nConnection: close\r\n\r\n".encode())
    await asyncio.sleep(0.5)  # by now the buffers are full
    text = (await asyncio.wait_for(reader.read(), 60)).decode()
    writer.close()
    await writer.wait_closed()
    assert text.count("data: {") == 3000 + len(happy().events) and '"ready"' in text


async def test_an_idle_stream_sends_keepalives_and_lingers(web: WebApp, stream: Stream) -> None:
    text = await stream(web.start(happy(), stream=StreamTimes(0.05, 0.5)) + BUILD)
    after_the_end = text.partition('"token"')[2]
    assert ":keepalive\n\n" in after_the_end


async def test_a_client_that_disconnects_closes_its_launch(web: WebApp, http: aiohttp.ClientSession) -> None:
    launch = SmallLaunch([Event(Phase.WAITING, "one\n")], stays_seconds=3600)
    response = await http.get(exactly(web.start(launch) + BUILD), headers=SSE)
    await response.content.readline()
    assert not launch.closed.is_set()
    response.close()
    await asyncio.wait_for(launch.closed.wait(), 10)


async def test_the_launch_is_closed_before_the_stream_lingers(web: WebApp, http: aiohttp.ClientSession) -> None:
    launch = happy()
    async with http.get(exactly(web.start(launch, stream=StreamTimes(15, 3600)) + BUILD), headers=SSE) as response:
        while b'"ready"' not in await response.content.readline():
            pass
        await asyncio.wait_for(launch.closed.wait(), 10)


async def test_a_user_error_is_an_event(web: WebApp, stream: Stream) -> None:
    async def full(click: Click) -> AsyncGenerator[Event, None]:
        yield Event(Phase.WAITING, "Looking.\n")
        raise QuotaExceeded("All servers are taken.", "Try again later.")

    first, last = events_of(await stream(web.start(full) + BUILD))
    assert first["phase"] == "waiting"
    assert last == {
        "phase": "failed",
        "message": "All servers are taken.\n",
        "hint": "Try again later.",
        "reason": "quota_exceeded",
    }


async def test_an_internal_error_is_an_event_without_details(
    web: WebApp, stream: Stream, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(click: Click) -> AsyncGenerator[Event, None]:
        yield Event(Phase.WAITING, "Looking.\n")
        raise KeyError("password")

    text = await stream(web.start(broken) + BUILD + "?token=s3cret")
    event = events_of(text)[-1]
    assert event["phase"] == "failed" and "password" not in text
    assert f"[{event['reason']}]" in caplog.text and "KeyError" in caplog.text and "s3cret" not in caplog.text


async def test_a_launch_without_a_final_event_fails(web: WebApp, stream: Stream) -> None:
    events = events_of(await stream(web.start(SmallLaunch([Event(Phase.WAITING, "x\n")])) + BUILD))
    assert [event["phase"] for event in events] == ["waiting", "failed"]


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("/build/zenodo/10.5281", "does not know"),
        (BUILD + "?build_token=%ff", "cannot be answered"),
    ],
)
async def test_refusals_are_events(web: WebApp, stream: Stream, path: str, sentence: str) -> None:
    launch = happy()
    assert sentence in (await refused(stream, web.start(launch) + path))["message"]
    assert not launch.clicks


@pytest.mark.parametrize(
    "headers",
    [
        {"Accept": "image/avif,image/webp,*/*;q=0.8"},
        {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"},
        {"Accept": "application/json"},
        {"Accept": "*/*", "Sec-Fetch-Site": "same-origin"},
        {"Accept": "*/*", "Sec-Fetch-Site": "none"},
        {"Accept": "*/*", "User-Agent": "Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0"},
    ],
)
async def test_images_pages_and_scripts_of_browsers_do_not_launch(
    web: WebApp, stream: Stream, headers: dict[str, str]
) -> None:
    launch = happy()
    await refused(stream, web.start(launch) + BUILD, **headers)
    assert not launch.clicks


@pytest.mark.parametrize(
    "accept", [b"Accept: */*", b"Accept: application/json, text/xml, application/xml, */*", b"Accept:", b"X-None: 1"]
)
async def test_a_raw_request_launches_with_any_or_no_accept_header(web: WebApp, accept: bytes) -> None:
    address = URL(web.start(happy()))
    reader, writer = await asyncio.open_connection(address.host, address.port)
    lines = (f"GET {BUILD} HTTP/1.1", f"Host: {address.authority}", "User-Agent: curl/8.5.0", "Connection: close")
    writer.write("\r\n".join(lines).encode() + b"\r\n" + accept + b"\r\n\r\n")
    text = (await reader.read()).decode()
    writer.close()
    await writer.wait_closed()
    assert text.startswith("HTTP/1.1 200") and events_of(text)[-1]["phase"] == "ready"


async def test_requests_launches(web: WebApp) -> None:
    url = web.start(happy()) + BUILD

    def phases() -> list[str]:
        with requests.get(url, stream=True, timeout=30) as response:
            lines = response.iter_lines(decode_unicode=True)
            return [event["phase"] for line in lines for event in events_of(line)]

    assert (await asyncio.to_thread(phases))[-1] == "ready"


async def test_aiohttp_launches_without_headers(web: WebApp, http: aiohttp.ClientSession) -> None:
    async with http.get(exactly(web.start(happy()) + BUILD)) as response:
        async for part in response.content:
            if b'"ready"' in part:
                return
    raise AssertionError("no launch was ready")


async def test_an_event_source_of_a_browser_launches(web: WebApp, stream: Stream) -> None:
    """The request of thebe and BinderHub's page, and of `@jupyterhub/binderhub-client`, which adds a token."""
    url = web.start(happy())
    browser = {"User-Agent": "Mozilla/5.0", "Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"}
    assert events_of(await stream(url + BUILD, **browser))[-1]["phase"] == "ready"
    client = {**browser, "Authorization": "Bearer t", "X-Xsrftoken": "x"}
    assert events_of(await stream(url + BUILD, **client))[-1]["phase"] == "ready"


@pytest.mark.parametrize(("value", "wanted"), [("true", True), ("True", True), ("false", False), ("", False)])
async def test_build_only_reaches_the_launch(web: WebApp, stream: Stream, value: str, wanted: bool) -> None:
    environment = VirtualEnvironment("e1", "/e1/venv", "/e1/checkout")
    launch = SmallLaunch([Event(Phase.READY, "The environment is ready.\n", environment=environment)])
    events = events_of(await stream(f"{web.start(launch)}{BUILD}?build_only={value}"))
    assert events[-1] == {"phase": "ready", "message": "The environment is ready.\n", "imageName": "e1"}
    assert [click.build_only for click in launch.clicks] == [wanted]


async def test_other_methods_are_refused_within_the_stream(web: WebApp, http: aiohttp.ClientSession) -> None:
    async with http.post(web.start(happy()) + BUILD, headers=SSE) as response:
        assert response.status == 200 and events_of(await response.text())[0]["phase"] == "failed"


async def test_the_rate_limit_does_not_apply_to_launch_pages(
    web: WebApp, http: aiohttp.ClientSession, stream: Stream
) -> None:
    url = web.start(happy(), limits=Limits("key", rate_limit=1))
    token = await build_token(http, url)
    assert events_of(await stream(url + BUILD))[-1]["phase"] == "ready"
    assert (await refused(stream, url + BUILD))["reason"] == "quota_exceeded"
    assert (await refused(stream, url + BUILD + "?build_token=forged"))["reason"] == "not_allowed"
    assert events_of(await stream(f"{url}{BUILD}?build_token={token}"))[-1]["phase"] == "ready"
    assert events_of(await stream(url + BUILD, **{"X-Forwarded-For": "192.0.2.1"}))[-1]["phase"] == "ready"


async def test_a_required_token_must_fit_the_link(web: WebApp, http: aiohttp.ClientSession, stream: Stream) -> None:
    url = web.start(happy(), limits=Limits("key", require_build_token=True))
    token = await build_token(http, url)
    assert (await refused(stream, url + BUILD))["reason"] == "not_allowed"
    other = url + BUILD.replace("/main", "/other")
    assert (await refused(stream, f"{other}?build_token={token}"))["reason"] == "not_allowed"
    assert events_of(await stream(f"{url}{BUILD}?build_token={token}"))[-1]["phase"] == "ready"


async def test_a_banned_network_is_refused(web: WebApp, stream: Stream) -> None:
    launch = happy()
    url = web.start(launch, limits=Limits("key", banned_networks=("127.0.0.1/32",)))
    assert (await refused(stream, url + BUILD))["reason"] == "not_allowed"
    assert not launch.clicks


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
async def test_another_site_may_not_launch(web: WebApp, stream: Stream, headers: dict[str, str]) -> None:
    launch = happy()
    await refused(stream, web.start(launch) + BUILD, **headers)
    assert not launch.clicks


async def test_our_own_page_may_launch(web: WebApp, stream: Stream) -> None:
    url = web.start(happy())
    events = events_of(await stream(url + BUILD, **{"Sec-Fetch-Site": "same-origin", "Origin": url}))
    assert events[-1]["phase"] == "ready"
