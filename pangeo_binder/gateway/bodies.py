"""Checks the bodies of requests to dask-gateway, whose own handlers fail on anything but a JSON object.

Sessions and schedulers send them, so they have a bounded size. Runs in the gateway.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from ..answers import AnswerInvalid, parse_json

MAX_BODY_BYTES = 1 << 17
"""The maximum size of a body: the heartbeat of a scheduler names each of its workers."""


@web.middleware
async def check_body(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Refuse a POST or PUT whose body is too large or not a JSON object; dask-gateway's client shows the reason."""
    if request.method in ("POST", "PUT", "PATCH"):
        body = b"" if (request.content_length or 0) > MAX_BODY_BYTES else await request.read()
        if not 0 < len(body) <= MAX_BODY_BYTES or not _is_object(body):
            raise web.HTTPUnprocessableEntity(
                reason=f"The body of the request is not a JSON object of at most {MAX_BODY_BYTES >> 10} KiB."
            )
    return await handler(request)


def _is_object(body: bytes) -> bool:
    try:
        return isinstance(parse_json(body), dict)
    except AnswerInvalid:
        return False
