"""Reads answers of other services over HTTP with a limit of their size: whole, as JSON, or line by line.

An answer that is too large, or is not what the caller expects, raises AnswerInvalid. It is a ClientError, so code that
handles a service that does not answer also handles it. The time limit is the client session's. Used in every process
that is a client of a service.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any

import aiohttp

MAX_BYTES = 1 << 18
"""The maximum size of an answer, unless its caller expects more: the time to parse it holds the event loop."""
LINE_BYTES = 1 << 18
"""The maximum length of one line of an event stream."""
_CHUNK_BYTES = 1 << 16


class AnswerInvalid(aiohttp.ClientError):
    """An answer is larger than allowed, or is not JSON of the expected kind."""


class AnswerTooLarge(AnswerInvalid):
    """An answer is larger than allowed."""


def is_no_answer(error: BaseException) -> bool:
    """Return whether a request failed because the service did not answer; an answer with an error is one."""
    answered = (AnswerInvalid, aiohttp.ClientResponseError)
    return isinstance(error, (aiohttp.ClientError, TimeoutError)) and not isinstance(error, answered)


async def read_bytes(response: aiohttp.ClientResponse, max_bytes: int = MAX_BYTES) -> bytes:
    """Return the body of `response`. Raises AnswerTooLarge; the connection is then not used again."""
    parts, size = [], 0
    async for part in response.content.iter_chunked(_CHUNK_BYTES):
        size += len(part)
        if size > max_bytes:
            response.close()
            raise AnswerTooLarge(f"an answer of more than {max_bytes} bytes")
        parts.append(part)
    return b"".join(parts)


def parse_json(body: bytes | str) -> Any:
    """Return the value in `body`. Raises AnswerInvalid also for values that are nested too deeply."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise AnswerInvalid("an answer that is not JSON") from None


async def read_object(response: aiohttp.ClientResponse, max_bytes: int = MAX_BYTES) -> dict[str, Any]:
    """Return the JSON object in the body of `response`. Raises AnswerInvalid."""
    value = parse_json(await read_bytes(response, max_bytes))
    if not isinstance(value, dict):
        raise AnswerInvalid("an answer that is not a JSON object")
    return value


async def read_lines(response: aiohttp.ClientResponse) -> AsyncGenerator[bytes, None]:
    """Yield the lines of a stream, without their ends. Raises AnswerInvalid above `LINE_BYTES`."""
    rest = b""
    async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line
            await asyncio.sleep(0)  # one chunk may hold thousands of lines
        if len(rest) > LINE_BYTES:
            response.close()
            raise AnswerInvalid(f"a line of more than {LINE_BYTES} bytes")
    if rest:
        yield rest
