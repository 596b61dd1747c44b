"""The S3 front: maps an HTTP request to one operation, and every failure to an S3 error.

It parses a request, verifies its signature, checks that its launch is live (this enforces revocation), and then routes
it. A request that is not in ROUTES gets 501. The log has no secrets: paths are logged without their query. Runs on the
data port of the storage process; not for issuing credentials (`app`).
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from aiohttp import web

from ...metrics import STORAGE_REQUESTS
from ..keys import derive_keys, launch_of
from ..launches import LaunchTable, StoredLaunch
from . import listing, multipart, objects, sigv4
from .answers import SERVER, error_answer
from .body import Body
from .call import Call, Stores
from .errors import STATUS, S3Error
from .sigv4 import SignatureError, SignedRequest

log = logging.getLogger(__name__)

MAX_REQUESTS = 256
"""Concurrent requests of one launch; more get `SlowDown`, which S3 clients retry with backoff."""
_REFUSED_HEADERS = (
    "x-amz-bucket-object-lock-enabled",
    "x-amz-expected-bucket-owner",
    "x-amz-grant-",
    "x-amz-mfa",
    "x-amz-object-lock-",
    "x-amz-server-side-encryption",
    "x-amz-tagging",
    "x-amz-website-redirect-location",
    "x-amz-write-offset-bytes",
)
_CLIENT_CLOSED_STATUS = 499
"""nginx's status for a client that closed its connection."""
_PRIVATE_ACLS = ("", "private", "bucket-owner-full-control")

Handler = Callable[[Call], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Route:
    """An operation, and the form of its requests."""

    operation: str
    method: str
    level: str
    """`service`, `bucket` or `object`."""
    handler: Handler
    needs: frozenset[str] = frozenset()
    """Query parameters it requires."""
    takes: frozenset[str] = frozenset()
    """Optional query parameters."""
    copies: bool = False
    """Whether it requires the header `x-amz-copy-source`."""


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


_LIST = _set("prefix delimiter max-keys encoding-type")
_PART = _set("partNumber uploadId")
ROUTES = (
    Route("ListBuckets", "GET", "service", listing.list_buckets),
    Route("HeadBucket", "HEAD", "bucket", listing.head_bucket),
    Route("GetBucketLocation", "GET", "bucket", listing.bucket_location, _set("location")),
    Route(
        "ListObjectsV2", "GET", "bucket", listing.list_objects_v2, _set("list-type"),
        _LIST | _set("continuation-token start-after fetch-owner"),
    ),
    Route("ListObjects", "GET", "bucket", listing.list_objects_v1, takes=_LIST | _set("marker")),
    Route("DeleteObjects", "POST", "bucket", objects.delete_objects, _set("delete")),
    Route("GetObject", "GET", "object", objects.get_object),
    Route("HeadObject", "HEAD", "object", objects.head_object),
    Route("PutObject", "PUT", "object", objects.put_object),
    Route("CopyObject", "PUT", "object", objects.copy_object, copies=True),
    Route("DeleteObject", "DELETE", "object", objects.delete_object),
    Route("CreateMultipartUpload", "POST", "object", multipart.create_upload, _set("uploads")),
    Route("UploadPart", "PUT", "object", multipart.upload_part, _PART),
    Route("UploadPartCopy", "PUT", "object", multipart.upload_part_copy, _PART, copies=True),
    Route("ListParts", "GET", "object", multipart.list_parts, _set("uploadId"), _set("max-parts part-number-marker")),
    Route("CompleteMultipartUpload", "POST", "object", multipart.complete_upload, _set("uploadId")),
    Route("AbortMultipartUpload", "DELETE", "object", multipart.abort_upload, _set("uploadId")),
)  # fmt: skip


def route_of(method: str, level: str, parameters: frozenset[str], copies: bool) -> Route | None:
    """Return the route of a request; None if its operation is not supported."""
    for route in ROUTES:
        shape = (route.method, route.level, route.copies) == (method, level, copies)
        if shape and route.needs <= parameters <= route.needs | route.takes:
            return route
    return None


class S3Front:
    """Server of S3 for the launches of `table`, whose keys derive from `master_key`."""

    def __init__(self, table: LaunchTable, stores: Stores, master_key: str) -> None:
        self._table = table
        self._stores = stores
        self._master_key = master_key
        self._running: dict[str, dict[asyncio.Task[object], web.BaseRequest]] = {}

    def abort_requests(self, launch_id: str) -> None:
        """Abort all running requests of the launch."""
        for task, request in self._running.pop(launch_id, {}).items():
            if request.transport is not None:
                request.transport.abort()
            task.cancel()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        started, request_id, operation = time.monotonic(), secrets.token_hex(8), "refused"
        try:
            call = self._verify(request)
            route = self._route(call)
            operation = route.operation
            answer = await self._run(route, call)
        except S3Error as error:
            answer = error_answer(error, request_id)
        except ConnectionError:  # the client closed the connection: this answer is only counted and logged
            answer = web.Response(status=_CLIENT_CLOSED_STATUS)
        except asyncio.CancelledError:
            STORAGE_REQUESTS.labels(operation, "aborted").inc()
            raise
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
            query = dict(sigv4.parse_query(signed.query))
        except SignatureError as error:
            code = error.code if error.code in STATUS else "AccessDenied"
            raise S3Error(code, str(error)) from None
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

    def _route(self, call: Call) -> Route:
        _check_headers(call)
        level = "object" if call.key else "bucket" if call.bucket_name else "service"
        parameters = frozenset(name for name in call.query if not name.startswith("X-Amz-") and name != "x-id")
        copies = bool(call.header("x-amz-copy-source"))
        route = route_of(call.request.method, level, parameters, copies)
        if route is None:
            raise S3Error("NotImplemented", "This S3 operation, or one of its parameters, is not supported.")
        return route

    async def _run(self, route: Route, call: Call) -> web.StreamResponse:
        task = asyncio.current_task()
        assert task is not None
        running = self._running.setdefault(call.launch.id, {})
        if len(running) >= MAX_REQUESTS:
            raise S3Error("SlowDown", f"This launch has more than {MAX_REQUESTS} concurrent requests.")
        running[task] = call.request
        try:
            return await route.handler(call)
        finally:
            running.pop(task, None)
            if not running:
                self._running.pop(call.launch.id, None)


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


def _bucket_and_key(path: str) -> tuple[str, str]:
    try:
        bucket, _, key = unquote_to_bytes(path.encode("utf-8", "surrogateescape")).decode()[1:].partition("/")
    except UnicodeDecodeError:
        raise S3Error("InvalidArgument", "The key is not valid UTF-8.") from None
    return bucket, key


def _check_headers(call: Call) -> None:
    """Refuse headers that cause costs for the requester, or that the front does not implement. Raises S3Error."""
    names = [name for name, _ in call.body.request.headers]
    if "x-amz-request-payer" in names:
        raise S3Error("AccessDenied", "Requester-pays buckets are not supported.")
    if any(name.startswith(_REFUSED_HEADERS) for name in names) or call.header("x-amz-acl") not in _PRIVATE_ACLS:
        raise S3Error("NotImplemented", "A header of this request is not supported.")
