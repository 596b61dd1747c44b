"""The S3 front: maps an HTTP request to one operation, and every failure to an S3 error.

It parses a request, verifies its signature, checks that its launch is live (this enforces revocation), and then routes
it. The log has no secrets: paths are logged without their query. Runs on the data port of the storage process; not for
issuing credentials (`app`) nor for the list of what is supported (`routes`).
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from urllib.parse import unquote_to_bytes

from aiohttp import web

from ... import trace
from ...metrics import STORAGE_REQUESTS
from ..keys import derive_keys, launch_of
from ..launches import LaunchTable, StoredLaunch
from . import sigv4
from .answers import SERVER, error_answer
from .body import Body
from .call import Call, Stores
from .errors import STATUS, S3Error, os_error
from .filework import Share, using
from .routes import Route, find_route
from .sigv4 import SignatureError, SignedRequest

log = logging.getLogger(__name__)

MAX_REQUESTS = 2048
"""Concurrent requests of all launches; more get `SlowDown`, which S3 clients retry with backoff."""
_CLIENT_CLOSED_STATUS = 499
"""nginx's status for a client that closed its connection."""


MakeExact = Callable[[StoredLaunch], Awaitable[None]]
"""Returns once a launch's usage is exact, so that its writes can be counted."""


@dataclass(frozen=True, slots=True)
class _Running:
    """The running requests of one launch, and its share of the threads."""

    requests: dict[asyncio.Task[object], web.BaseRequest] = field(default_factory=dict)
    share: Share = field(default_factory=Share)


class S3Front:
    """Server of S3 for the launches of `table`, whose keys derive from `master_key`."""

    def __init__(self, table: LaunchTable, stores: Stores, master_key: str, make_exact: MakeExact) -> None:
        self._table = table
        self._stores = stores
        self._master_key = master_key
        self._make_exact = make_exact
        self._running: dict[str, _Running] = {}
        self._count = 0

    def abort_requests(self, launch_id: str) -> None:
        """Abort all running requests of the launch."""
        running = self._running.pop(launch_id, None)
        for task, request in list(running.requests.items()) if running else ():
            if request.transport is not None:
                request.transport.abort()
            task.cancel()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        started, request_id, operation = time.monotonic(), secrets.token_hex(8), "refused"
        trace.enter(request.headers.get(trace.HEADER, ""))
        try:
            call = replace(self._verify(request), request_id=request_id)
            route = find_route(call)
            operation = route.operation
            answer = await self._run(route, call)
        except S3Error as error:
            answer = error_answer(error, request_id)
        except ConnectionError:  # the client closed the connection: this answer is only counted and logged
            answer = web.Response(status=_CLIENT_CLOSED_STATUS)
        except asyncio.CancelledError:
            STORAGE_REQUESTS.labels(operation, "aborted").inc()
            raise
        except OSError as error:
            log.error("request %s failed: %s", request_id, error)
            answer = error_answer(os_error(error), request_id)
        except Exception:
            log.exception("request %s failed", request_id)
            answer = error_answer(
                S3Error("InternalError", f"Internal error; its id in the log is {request_id}."), request_id
            )
        STORAGE_REQUESTS.labels(operation, str(answer.status)).inc()
        path, seconds = request.raw_path.partition("?")[0], time.monotonic() - started
        log.info("%s %s %s %s %.3fs %s", request.method, path, operation, answer.status, seconds, request_id)
        return _with_headers(request, answer, request_id)

    def _verify(self, request: web.BaseRequest) -> Call:
        """Return `request` as a Call. Raises S3Error unless its signature is valid and its launch is live."""
        signed = _signed(request)
        try:
            claim = sigv4.read_claim(signed)
            launch = self._launch(claim.access_key_id)
            keys = derive_keys(self._master_key, launch.id)
            signer = sigv4.verify(signed, claim, keys.secret, keys.session_token, time.time())
            query = _query(signed)
        except SignatureError as error:
            code = error.code if error.code in STATUS else "AccessDenied"
            raise S3Error(code, str(error)) from None
        trace.enter_launch(launch.id)
        if not launch.live(time.time()):
            raise S3Error("AccessDenied", "This launch has ended, so its storage credentials are no longer valid.")
        bucket, key = _bucket_and_key(signed.path)
        return Call(request, launch, self._stores, bucket, key, query, Body(request.content, signed, claim, signer))

    def _launch(self, access_key_id: str) -> StoredLaunch:
        launch_id = launch_of(access_key_id)
        launch = self._table.get(launch_id) if launch_id else None
        if launch is None:
            raise S3Error("InvalidAccessKeyId", "The access key id does not belong to a launch.")
        return launch

    async def _run(self, route: Route, call: Call) -> web.StreamResponse:
        task = asyncio.current_task()
        assert task is not None
        running = self._running.setdefault(call.launch.id, _Running())
        limit = call.launch.limits.requests
        if len(running.requests) >= limit:
            raise S3Error("SlowDown", f"This launch has more than {limit} concurrent requests.")
        if self._count >= MAX_REQUESTS:
            raise S3Error("SlowDown", "The storage service has too many concurrent requests; try again.")
        running.requests[task] = call.request
        self._count += 1
        try:
            with using(running.share):
                if route.method in ("GET", "HEAD"):
                    return await route.handler(call)
                await self._make_exact(call.launch)
                with call.launch.files.writing():
                    return await route.handler(call)
        finally:
            self._count -= 1
            running.requests.pop(task, None)
            if not running.requests and self._running.get(call.launch.id) is running:
                del self._running[call.launch.id]


def _with_headers(request: web.BaseRequest, answer: web.StreamResponse, request_id: str) -> web.StreamResponse:
    if not answer.prepared:
        answer.headers["Server"] = SERVER
        answer.headers["x-amz-request-id"] = request_id
        if request.headers.get("Expect") and answer.status >= 400:
            answer.force_close()  # the client may or may not still send the body
    return answer


def _signed(request: web.BaseRequest) -> SignedRequest:
    path, _, query = request.raw_path.partition("?")
    if not path.startswith("/"):
        raise S3Error("InvalidRequest", "The request's path must begin with a slash.")
    headers = tuple((name.lower(), value) for name, value in request.headers.items())
    return SignedRequest(request.method, path, query, headers)


def _query(signed: SignedRequest) -> dict[str, str]:
    pairs = sigv4.parse_query(signed.query)
    query = dict(pairs)
    if len(query) != len(pairs):
        raise S3Error("InvalidArgument", "A query parameter is given twice.")
    return query


def _bucket_and_key(path: str) -> tuple[str, str]:
    try:
        bucket, _, key = unquote_to_bytes(path.encode("utf-8", "surrogateescape")).decode()[1:].partition("/")
    except UnicodeDecodeError:
        raise S3Error("InvalidArgument", "The key is not valid UTF-8.") from None
    return bucket, key
