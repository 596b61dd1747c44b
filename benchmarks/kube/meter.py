"""A proxy in front of Kubernetes' API that counts what passes, by what is done to which kind of object.

Plain HTTP on loopback, so that bytes are those of HTTP's bodies; each client sends its own token.
"""

from __future__ import annotations

import re
import ssl
import zlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import aiohttp
from aiohttp import web

_PATH = re.compile(
    r"/(?:api|apis/[^/]+)/[^/]+/(?:namespaces/[^/]+/)?(?P<kind>[^/]+)(?:/(?P<name>[^/]+))?(?:/(?P<sub>[^/]+))?"
)
_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete", "GET": "get"}
_HOP = {"connection", "transfer-encoding", "content-length", "host", "keep-alive"}


@dataclass(slots=True)
class Tally:
    """What passed: by words such as `create pods`."""

    requests: Counter[str] = field(default_factory=Counter)
    sent: Counter[str] = field(default_factory=Counter)
    """Bytes of requests' bodies."""
    received: Counter[str] = field(default_factory=Counter)
    """Bytes of answers' bodies as they passed, compressed or not."""
    plain: Counter[str] = field(default_factory=Counter)
    """Bytes of answers' bodies as the asking side has to read them."""
    lines: Counter[str] = field(default_factory=Counter)
    """Lines of answers' bodies; one for each event of a watch."""
    refused: Counter[str] = field(default_factory=Counter)
    """Answers of 400 and above, among the requests."""

    def copy(self) -> Tally:
        """Return what passed so far."""
        return Tally(*(Counter(getattr(self, name)) for name in self.__slots__))

    def since(self, before: Tally) -> Tally:
        """Return what passed after `before` was copied."""
        return Tally(*(getattr(self, name) - getattr(before, name) for name in self.__slots__))


def what(method: str, path: str, query: Mapping[str, str]) -> str:
    """Return what a request does to which kind of object: `list pods`, `watch pods`, `create namespaces`."""
    found = _PATH.fullmatch(path)
    if found is None:
        return f"{method.lower()} {path}"
    kind, name, sub = found["kind"], found["name"], found["sub"]
    if kind == "namespaces" and name and sub:  # a namespace's own part, such as `status`
        kind, sub = f"namespaces/{sub}", None
    verb = _VERBS[method]
    if method == "GET" and not name:
        verb = "watch" if query.get("watch", "").lower() in ("1", "true") else "list"
    return f"{verb} {kind}{'/' + sub if sub else ''}"


class Meter:
    """The proxy; an async context manager. `url` is where it listens."""

    def __init__(self, server: str, authority: Path) -> None:
        self.tally = Tally()
        self.url = ""
        self._server = server
        self._ssl = ssl.create_default_context(cafile=str(authority))

    async def __aenter__(self) -> Self:
        timeout = aiohttp.ClientTimeout(total=None)
        connector = aiohttp.TCPConnector(limit=0, ssl=self._ssl)
        self._http = aiohttp.ClientSession(connector=connector, auto_decompress=False, timeout=timeout)
        app = web.Application(client_max_size=2**26)
        app.router.add_route("*", "/{path:.*}", self._pass)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._runner.cleanup()
        await self._http.close()

    async def _pass(self, request: web.Request) -> web.StreamResponse:
        name, body = what(request.method, request.path, request.query), await request.read()
        self.tally.requests[name] += 1
        self.tally.sent[name] += len(body)
        headers = {key: value for key, value in request.headers.items() if key.lower() not in _HOP}
        asked = self._http.request(request.method, self._server + request.raw_path, headers=headers, data=body or None)
        async with asked as answer:
            self.tally.refused[name] += answer.status >= 400
            kept = {key: value for key, value in answer.headers.items() if key.lower() not in _HOP}
            response = web.StreamResponse(status=answer.status, headers=kept)
            await response.prepare(request)
            await self._answer(name, answer, response)
        return response

    async def _answer(self, name: str, answer: aiohttp.ClientResponse, response: web.StreamResponse) -> None:
        packed = answer.headers.get("Content-Encoding") == "gzip"
        unpack = zlib.decompressobj(31).decompress if packed else bytes
        async for chunk in answer.content.iter_any():
            plain = unpack(chunk)
            self.tally.received[name] += len(chunk)
            self.tally.plain[name] += len(plain)
            self.tally.lines[name] += plain.count(b"\n")
            await response.write(chunk)
        await response.write_eof()
