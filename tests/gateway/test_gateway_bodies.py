"""Test which bodies of requests reach dask-gateway's handlers."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from pangeo_binder.gateway.bodies import MAX_BODY_BYTES, check_body
from tests.stack.loopmeter import loop_meter


@pytest.fixture
async def url() -> AsyncIterator[str]:
    """The URL of a handler that reads its body as dask-gateway's do."""

    async def read(request: web.Request) -> web.Response:
        return web.json_response(len((await request.json()).get("x", "")) if request.method == "POST" else 0)

    app = web.Application(middlewares=[check_body])
    app.router.add_route("*", "/", read)
    server = TestServer(app, host="127.0.0.1")
    await server.start_server()
    yield str(server.make_url("/"))
    await server.close()


async def test_the_largest_body_is_read(url: str) -> None:
    body = b'{"x": "' + b"a" * (MAX_BODY_BYTES - 9) + b'"}'
    async with aiohttp.ClientSession() as http, loop_meter():
        async with http.post(url, data=body) as answer:
            assert (answer.status, await answer.json()) == (200, MAX_BODY_BYTES - 9)
        async with http.get(url) as answer:
            assert answer.status == 200


@pytest.mark.parametrize("part", [b"[[[]]],", b"[],", b'{"a":[]},'])
async def test_the_slowest_body_holds_nobody_up(url: str, part: bytes) -> None:
    many = (MAX_BODY_BYTES - 20) // len(part)
    async with aiohttp.ClientSession() as http, loop_meter():
        for _ in range(3):
            async with http.post(url, data=b'{"x":"","y":[' + part * many + b"0]}") as answer:
                assert (answer.status, await answer.json()) == (200, 0)


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"1", b"{", b"\xff", b"[" * 200_000, b'{"x":' * 40_000, b" " * (MAX_BODY_BYTES + 1), b" " * 1_000_000],
    ids=["none", "list", "number", "broken", "bytes", "deep list", "deep object", "large", "very large"],
)
async def test_other_bodies_are_refused_with_a_sentence(url: str, body: bytes) -> None:
    async with aiohttp.ClientSession() as http, loop_meter():
        try:
            async with http.post(url, data=body) as answer:
                assert answer.status == 422 and "at most 128 KiB" in str(answer.reason)
        except aiohttp.ClientConnectionError:  # the connection ends before a very large body is sent
            assert len(body) > MAX_BODY_BYTES


async def test_a_body_of_unknown_size_is_bounded(url: str) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(64):
            yield b" " * MAX_BODY_BYTES

    async with aiohttp.ClientSession() as http:
        try:
            async with http.post(url, data=endless()) as answer:
                assert answer.status in (413, 422)
        except aiohttp.ClientConnectionError:
            pass
