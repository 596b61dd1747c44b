"""Passes traces on between our own processes by HTTP; other peers learn nothing of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import SimpleNamespace

import aiohttp
from aiohttp import web

from . import trace


def passing_on() -> aiohttp.TraceConfig:
    """Return what makes a client session send the running task's trace with each request."""
    config = aiohttp.TraceConfig()
    config.on_request_start.append(_add_header)
    return config


@web.middleware
async def continue_trace(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Continue the trace of the request, or begin one: a connection's task must not keep the one before."""
    trace.enter(request.headers.get(trace.HEADER, ""))
    return await handler(request)


async def _add_header(
    session: aiohttp.ClientSession, context: SimpleNamespace, request: aiohttp.TraceRequestStartParams
) -> None:
    if (current := trace.current()) is not None:
        request.headers[trace.HEADER] = current.header
