"""Send hostile requests from a generator to the binder's HTTP interface: no internal error, no traceback, no stall."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote, urlsplit

import pytest

from pangeo_binder.repos.git import GitProvider
from pangeo_binder.web.context import StreamTimes
from pangeo_binder.web.limits import Limits
from pangeo_binder.web.server import BODY_BYTES, HEADER_BYTES
from tests.stack.loopmeter import loop_meter
from tests.web.conftest import web
from tests.web.webapp import SmallLaunch, WebApp, bad_events, good_events

__all__ = ["web"]

REQUESTS = 1500
STALL_SECONDS = 1.0
_AT_ONCE = 20
_WAIT_SECONDS = 2

_METHODS = (
    "GET",
    "GET",
    "GET",
    "HEAD",
    "POST",
    "PUT",
    "DELETE",
    "OPTIONS",
    "TRACE",
    "CONNECT",
    "get",
    "G\x00T",
    "X" * 99,
)
_STARTS = (
    "/",
    "/v2/git/",
    "/v2/",
    "/build/git/",
    "/build/",
    "/repo/",
    "/static/",
    "/user/",
    "/about",
    "/health",
    "//",
    "*",
)
_STARTS += (
    "/metrics",
    "/api/repoproviders",
    "/badge.svg",
    "/versions",
    "/robots.txt",
    "/hub/",
    "",
    "http://other.example/",
)
_PIECES = (
    "..",
    "%2e%2e",
    "%2F",
    "%00",
    "\x00",
    "\xff",
    "%ff",
    "%",
    "%zz",
    "//",
    "\\",
    "?",
    "#",
    "@",
    ":",
    ";",
    "{{7*7}}",
    "'",
)
_PIECES += (
    "https%3A%2F%2Fexample.org%2Fr",
    "https://u:p@h/r",
    "ext::sh -c x",
    "--upload-pack=x",
    "HEAD",
    "a" * 300,
    "%C3%A4",
)
_PIECES += (
    "<script>",
    "${jndi:ldap://x}",
    "\r\nX: y",
    "%0d%0aX:%20y",
    "\u2028".encode().decode("latin-1"),
    "..%5c",
    "main",
    "/",
)
_NAMES = ("Host", "Origin", "Accept", "Cookie", "Authorization", "X-Forwarded-For", "X-Real-Ip", "X-Scheme", "Range")
_NAMES += (
    "Sec-Fetch-Site",
    "Content-Length",
    "Transfer-Encoding",
    "If-None-Match",
    "If-Modified-Since",
    "Expect",
    "Upgrade",
)
_VALUES = (
    "",
    "text/event-stream",
    "application/json",
    "chunked",
    "-1",
    "99999999999999999999",
    "bytes=0-,5-1",
    "null",
    "*",
)
_VALUES += (
    "127.0.0.1",
    "::1",
    "[::",
    "2001:db8::1, x",
    "http://evil.example",
    "cross-site",
    "100-continue",
    'W/"x"',
    "websocket",
)
_QUERIES = ("urlpath", "labpath", "filepath", "build_token", "build_only", "v", "x")


class Attacker:
    """A generator of requests; the same seed makes the same requests."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def request(self) -> bytes:
        """Return the bytes of one request."""
        lines = [
            f"{self._one(_METHODS)} {self._target()} {self._one(('HTTP/1.1', 'HTTP/1.1', 'HTTP/1.0', 'HTTP/9', ''))}"
        ]
        lines += ["Host: 127.0.0.1", "Connection: close"] if self._random.random() < 0.9 else []
        for _ in range(self._random.randrange(6)):
            lines.append(f"{self._one(_NAMES)}: {self._text(_VALUES)}")
        body = self._random.randbytes(self._one((0, 0, 10, BODY_BYTES, BODY_BYTES + 1)))
        if body and self._random.random() < 0.8:
            lines.append(f"Content-Length: {len(body)}")
        return "\r\n".join(lines).encode("latin-1", "replace") + b"\r\n\r\n" + body

    def _target(self) -> str:
        pieces = "".join(self._text(_PIECES) for _ in range(self._random.randrange(5)))
        query = "&".join(
            f"{self._one(_QUERIES)}={quote(self._text(_PIECES))}" for _ in range(self._random.randrange(3))
        )
        long = "x" * self._one((0,) * 20 + (9000, HEADER_BYTES + 1))
        return f"{self._one(_STARTS)}{pieces}{long}{'?' if query else ''}{query}"

    def _text(self, texts: tuple[str, ...]) -> str:
        noise = "".join(chr(self._random.randrange(1, 256)) for _ in range(self._random.randrange(8)))
        return self._one((*texts, noise))

    def _one(self, of: tuple[Any, ...]) -> Any:
        return self._random.choice(of)


async def status_of(url: str, request: bytes) -> int:
    """Send the bytes of a request; return the status of the answer, 0 if the connection was closed without one."""
    reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(url).port)
    try:
        writer.write(request)
        try:
            line = await asyncio.wait_for(reader.readline(), _WAIT_SECONDS)
        except TimeoutError:  # the request announces more than it sends
            writer.write_eof()
            line = await asyncio.wait_for(reader.readline(), 20)
    except ConnectionError:
        return 0
    finally:
        writer.close()
    return int(line.split(b" ", 2)[1]) if line.startswith(b"HTTP/") else 0


async def statuses_of(url: str, requests: Sequence[bytes]) -> dict[int, int]:
    """Send all requests, some at the same time; return how often each status was the answer."""
    turns, found = asyncio.Semaphore(_AT_ONCE), dict[int, int]()

    async def send(request: bytes) -> None:
        async with turns:
            status = await status_of(url, request)
            assert status < 500, request[:2000]
            found[status] = found.get(status, 0) + 1

    async with asyncio.TaskGroup() as group:
        for request in requests:
            group.create_task(send(request))
    return found


@pytest.mark.parametrize("strict", [False, True], ids=["open", "with every limit"])
async def test_no_request_breaks_the_binder(web: WebApp, caplog: pytest.LogCaptureFixture, strict: bool) -> None:
    limits = Limits("key", cors_allow_origin="*")
    if strict:
        limits = Limits("key", 1800, True, 5, 3600, ("192.0.2.0/24",), ("127.0.0.1", "localhost"))
    launch = SmallLaunch(bad_events() if strict else good_events("http://127.0.0.1/user/a/"))
    changes = {"limits": limits, "ask_first": strict, "providers": (GitProvider(),), "stream": StreamTimes(15, 0)}
    url = web.start(launch, **changes, examples=())
    attacker = Attacker(seed=int(strict))
    requests = [attacker.request() for _ in range(REQUESTS // 2)]
    before = len(asyncio.all_tasks())
    with caplog.at_level(logging.WARNING):
        async with loop_meter(STALL_SECONDS):
            found = await statuses_of(url, requests)
            assert await status_of(url, b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n") == 200
    assert {200, 400, 404, 405} <= set(found), "the generator reaches the handlers and their refusals"
    assert found.get(0, 0) < len(requests) / 4
    assert [record for record in caplog.records if record.exc_info or record.levelno >= logging.ERROR] == []
    await asyncio.sleep(0.2)
    assert len(asyncio.all_tasks()) <= before + 1
