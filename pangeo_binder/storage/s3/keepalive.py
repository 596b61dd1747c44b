"""Keeps the answer to a long operation alive, as S3 does for CompleteMultipartUpload.

An operation that is not done soon is answered with the status 200 at once, then with spaces until its document, which
may be an error: https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html. Not for the
operations themselves.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from aiohttp import web

from .answers import DECLARATION, NAMESPACE_ATTRIBUTE, SERVER, Node, element, error_node, xml
from .call import Call
from .errors import S3Error, os_error

log = logging.getLogger(__name__)


async def answer_when_done(call: Call, operation: Coroutine[Any, Any, Node]) -> web.StreamResponse:
    """Answer with the document of `operation`, which continues if the client closes the connection. Raises S3Error."""
    work = asyncio.ensure_future(operation)
    work.add_done_callback(_log_failure)
    seconds = call.stores.keepalive_seconds
    try:
        await asyncio.wait([work], timeout=seconds)
        if work.done():
            return xml(work.result())
        response = web.StreamResponse(headers={"Server": SERVER, "x-amz-request-id": call.request_id})
        response.content_type = "application/xml"
        await response.prepare(call.request)
        await response.write(DECLARATION.encode())
        while not work.done():
            await response.write(b" ")
            await asyncio.wait([work], timeout=seconds)
        await response.write(_document(call, work).encode())
        await response.write_eof()
        return response
    except asyncio.CancelledError:  # the launch was revoked
        work.cancel()
        raise


def _document(call: Call, work: asyncio.Future[Node]) -> str:
    try:
        return element(work.result(), NAMESPACE_ATTRIBUTE)
    except S3Error as error:
        return element(error_node(error, call.request_id))
    except OSError as error:
        return element(error_node(os_error(error), call.request_id))


def _log_failure(work: asyncio.Future[Node]) -> None:
    if not work.cancelled() and (error := work.exception()) and not isinstance(error, S3Error | OSError):
        log.error("an operation failed: %s", error, exc_info=error)
