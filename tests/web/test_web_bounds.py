"""Test the size limits of requests, and that one client with much to read does not hold the others up."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable

import aiohttp
import pytest

from pangeo_binder.events import Event, Phase
from pangeo_binder.web.limits import Limits
from pangeo_binder.web.server import BODY_BYTES, HEADER_BYTES
from pangeo_binder.web.urlpath import MAX_CHARACTERS
from tests.stack.loopmeter import loop_meter
from tests.stack.sockets import sockets
from tests.web.webapp import SmallLaunch, WebApp, exactly, good_events

LINK = "/v2/git/https%3A%2F%2Fexample.org%2Frepo/HEAD"


async def raw_answer(url: str, request: bytes) -> bytes:
    """Send bytes, and return the first line of the answer; empty if the connection was closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
    try:
        writer.write(request)
        return await asyncio.wait_for(reader.readline(), 20)
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def test_headers_and_bodies_have_a_bounded_size(web: WebApp) -> None:
    url = web.start(SmallLaunch([]))
    start = b"POST /about HTTP/1.1\r\nHost: x\r\n"
    for size, status in ((BODY_BYTES, b"405"), (BODY_BYTES + 1, b"400"), (10**12, b"400")):
        sent = b"a" * min(size, BODY_BYTES)
        answer = await raw_answer(url, start + f"Content-Length: {size}\r\n\r\n".encode() + sent)
        assert status in answer or (answer == b"" and size > BODY_BYTES), size
    get = b"GET /about HTTP/1.1\r\nHost: x\r\nCookie: "
    assert b"200" in await raw_answer(url, get + b"a" * (HEADER_BYTES - len(get) - 4) + b"\r\n\r\n")
    assert await raw_answer(url, get + b"a" * (HEADER_BYTES + 1) + b"\r\n\r\n") == b""


@pytest.mark.parametrize(
    ("link", "status", "words"),
    [
        (LINK + "?urlpath=" + "a" * MAX_CHARACTERS, 200, ""),
        (LINK + "?urlpath=" + "a" * (MAX_CHARACTERS + 1), 400, "longer than 4096 characters"),
        (LINK + "?filepath=" + "a" * MAX_CHARACTERS, 400, "longer than 4096 characters"),
        ("/v2/git/" + "a" * (8192 - 4), 200, ""),
        ("/v2/git/" + "a" * (8192 - 3), 404, "longer than 8192 characters"),
    ],
    ids=["path", "path too long", "file too long", "link", "link too long"],
)
async def test_links_and_paths_have_a_bounded_length(
    web: WebApp, http: aiohttp.ClientSession, link: str, status: int, words: str
) -> None:
    url = web.start(SmallLaunch([]))
    async with http.get(exactly(url + link)) as response:
        assert response.status == status and words in await response.text()


async def test_the_newest_connection_above_the_limit_is_refused(web: WebApp, caplog: pytest.LogCaptureFixture) -> None:
    web.most_connections = 3
    port = int(web.start(SmallLaunch([])).rpartition(":")[2])
    async with sockets(port) as connected:
        await connected.open(3)
        for _ in range(5):
            refused = await connected.refusal()
            assert refused.startswith(b"HTTP/1.1 503 ") and b"Too many connections" in refused
        assert b" 200 " in await connected.ask("/about", 0), "the others are served"
        if sys.platform == "linux":  # which has all addresses of 127.0.0.0/8
            await connected.accepted("/about", "127.0.0.2")
            await connected.close(1)
        await connected.close(2)
        await connected.accepted("/about")
        await connected.accepted("/about")
        assert await connected.refusal() == refused
    assert caplog.text.count("New connections are refused: 3 are open") == 1


async def test_a_silent_connection_is_closed(web: WebApp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pangeo_binder.web.server.IDLE_SECONDS", 0.1)
    async with sockets(int(web.start(SmallLaunch([])).rpartition(":")[2])) as connected:
        assert await connected.refusal() == b""


async def test_a_network_follows_a_bounded_number_of_launches(
    web: WebApp, http: aiohttp.ClientSession, stream: Callable[..., Awaitable[str]]
) -> None:
    launch = SmallLaunch([Event(Phase.WAITING, "one\n")], stays_seconds=3600)
    url = web.start(launch, limits=Limits("key", streams=2)) + "/build/git/x%2Fy/HEAD"

    async def follow(address: str) -> aiohttp.ClientResponse:
        headers = {"Accept": "text/event-stream", "X-Forwarded-For": address}
        response = await http.get(exactly(url), headers=headers)
        assert b"one" in await response.content.readline()
        return response

    opened = [await follow(f"2001:db8::{number}") for number in (1, 2)]
    assert "Your network already follows 2 launches" in await stream(url, **{"X-Forwarded-For": "2001:db8::3"})
    opened += [await follow("192.0.2.1"), await follow("192.0.2.1")]
    assert len(launch.clicks) == 4
    opened.pop(0).close()
    await asyncio.wait_for(launch.closed.wait(), 10)
    opened.append(await follow("2001:db8::3"))
    for response in opened:
        response.close()


async def test_a_long_log_does_not_hold_others_up(web: WebApp, stream: Callable[..., Awaitable[str]]) -> None:
    lines = [Event(Phase.BUILDING, f"line {number}\n") for number in range(10_000)]
    url = web.start(SmallLaunch([*lines, good_events("http://127.0.0.1/user/a/")[-1]]))
    async with loop_meter():
        texts = await asyncio.gather(*(stream(f"{url}/build/git/x%2Fy/HEAD") for _ in range(3)))
    assert all(text.count('"phase": "building"') == len(lines) for text in texts)
