"""Traces: which headers are continued, and which task has which."""

from __future__ import annotations

import asyncio
import re

import aiohttp
import pytest
from aiohttp import web

from pangeo_binder import trace
from pangeo_binder.trace_http import continue_trace, passing_on

ID, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.mark.parametrize(
    ("header", "continued"),
    [
        (f"00-{ID}-{PARENT}-01", True),
        (f" 00-{ID}-{PARENT}-00 ", True),
        (f"cc-{ID}-{PARENT}-01-what-a-later-version-adds", True),
        (f"00-{ID}-{PARENT}-01-more", False),
        (f"ff-{ID}-{PARENT}-01", False),
        (f"00-{'0' * 32}-{PARENT}-01", False),
        (f"00-{ID}-{'0' * 16}-01", False),
        (f"00-{ID.upper()}-{PARENT}-01", False),
        (f"00-{ID}-{PARENT}", False),
        (f"cc-{ID}-{PARENT}-01-{'x' * 300}", False),
        (f"00-{ID}-{PARENT}-01\r\nX: y", False),
        ("", False),
    ],
)
def test_a_valid_header_is_continued_and_another_begins_a_trace(header: str, continued: bool) -> None:
    entered = trace.enter(header)
    assert (entered.id == ID) is continued
    assert re.fullmatch("[0-9a-f]{32}", entered.id) and trace.current() == entered


def test_each_request_names_the_trace_with_a_parent_of_its_own() -> None:
    entered = trace.enter(f"00-{ID}-{PARENT}-03")
    first, second = entered.header, entered.header
    assert re.fullmatch(f"00-{ID}-[0-9a-f]{{16}}-01", first) and first != second and PARENT not in first
    assert trace.enter(f"00-{ID}-{PARENT}-02").header.endswith("-00")


async def test_a_task_takes_over_its_makers_trace_unless_it_is_for_several() -> None:
    trace.enter(f"00-{ID}-{PARENT}-01")
    launched = trace.enter_launch("a1")

    async def look() -> trace.Trace | None:
        return trace.current()

    assert launched == trace.Trace(ID, True, "a1")
    assert await asyncio.create_task(look()) == launched
    assert await asyncio.create_task(look(), context=trace.shared()) is None


async def test_a_server_of_ours_continues_the_trace_of_each_request_of_a_connection() -> None:
    async def answer(request: web.Request) -> web.Response:
        found = trace.enter_launch("a1") if request.query else trace.current()
        assert found is not None
        return web.Response(text=f"{found.id} {found.launch_id}")

    app = web.Application(middlewares=[continue_trace])
    app.router.add_get("/", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = "http://{}:{}/".format(*runner.addresses[0])
    async with aiohttp.ClientSession(trace_configs=[passing_on()]) as session:

        async def ask(query: str = "") -> str:
            async with session.get(url + query) as response:
                return await response.text()

        trace.enter(f"00-{ID}-{PARENT}-01")
        assert await ask("?launch") == f"{ID} a1"
        assert await ask() == f"{ID} ", "no launch is left of the request before"
        assert not (await asyncio.create_task(ask(), context=trace.shared())).startswith(ID)
    await runner.cleanup()
