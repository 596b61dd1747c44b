"""The binder's running web application, an HTTP client for it, and a real browser."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from playwright.async_api import Browser, async_playwright

from tests.stack.browser import ARGUMENTS, chromium_path
from tests.web.watched import Watched
from tests.web.webapp import WebApp, exactly


@pytest.fixture
async def web() -> AsyncIterator[WebApp]:
    running = WebApp()
    yield running
    for server in running.servers:
        server.stop()
        await server.close_all_connections()


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
def stream(http: aiohttp.ClientSession) -> Callable[..., Awaitable[str]]:
    """Read an event stream to its end."""

    async def read(url: str, **headers: str) -> str:
        async with http.get(exactly(url), headers={"Accept": "text/event-stream", **headers}) as response:
            assert response.status == 200
            return await response.text()

    return read


@pytest.fixture
async def chromium() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium_path(), args=ARGUMENTS)
        yield browser
        await browser.close()


@pytest.fixture
async def watch(chromium: Browser) -> AsyncIterator[Callable[..., Any]]:
    contexts = []

    async def open_page(**options: Any) -> Watched:
        contexts.append(await chromium.new_context(**options))
        return Watched(await contexts[-1].new_page())

    yield open_page
    for context in contexts:
        await context.close()
