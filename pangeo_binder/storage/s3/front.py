"""The S3 front: from an HTTP request to one operation, and from any failure to an S3 error.

Every request is parsed, its signature verified, its launch looked up (that is the revocation), and only then routed;
what is not in the table is answered 501. Secrets stay out of the log: paths are logged without their query. Runs on the
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
from ..keys import launch_of, triple_of
from ..launches import LaunchTable, StoredLaunch
from . import listing, multipart, objects, sigv4
from .answers import SERVER, error_answer
from .body import Body
from .call import Call, Stores
from .errors import STATUS, S3Error
from .sigv4 import SignatureError, SignedRequest

log = logging.getLogger(__name__)

MAX_REQUESTS = 256
"""Requests of one launch at a time; beyond, clients are told to slow down, which they do by themselves."""
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
_GONE_STATUS = 499
"""What nginx logs for a client that closed its connection."""
_PRIVATE_ACLS = ("", "private", "bucket-owner-full-control")

Handler = Callable[[Call], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Route:
    """An operation, and what a request must look like to be it."""

    operation: str
    method: str
    level: str
    """`service`, `bucket` or `object`."""
    handler: Handler
    needs: frozenset[str] = frozenset()
    """Query parameters it has."""
    takes: frozenset[str] = frozenset()
    """Query parameters it may have."""
    copies: bool = False
    """Whether it has `x-amz-copy-source`."""


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
    """Return the operation a request is, or None where it is none that is known here."""
    for route in ROUTES:
        shape = (route.method, route.level, route.copies) == (method, level, copies)
        if shape and route.needs <= parameters <= route.needs | route.takes:
            return route
    return None


class S3Front:
    """Serves S3 to the launches of `table`, whose keys derive from `master_key`."""

    def __init__(self, table: LaunchTable, stores: Stores, master_key: str) -> None:
        self._table = table
        self._stores = stores
        self._master_key = master_key
        self._running: dict[str, dict[asyncio.Task[object], web.BaseRequest]] = {}

    def abort_requests(self, launch_id: str) -> None:
        """Break off everything the launch is reading or writing now."""
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
        except ConnectionError:  # the client went away: nobody hears this answer
            answer = web.Response(status=_GONE_STATUS)
        except asyncio.CancelledError:
            STORAGE_REQUESTS.labels(operation, "aborted").inc()
            raise
        except Exception:
            log.exception("request %s failed", request_id)
            answer = error_answer(S3Error("InternalError", f"Something failed here, see {request_id}."), request_id)
        STORAGE_REQUESTS.labels(operation, str(answer.status)).inc()
        path, seconds = request.raw_path.partition("?")[0], time.monotonic() - started
        log.info("%s %s %s %s %.3fs %s", request.method, path, operation, answer.status, seconds, request_id)
        return _finished(request, answer, request_id)

    def _verify(self, request: web.BaseRequest) -> Call:
        """Return the call `request` is, once its signature holds and its launch lives. Raises S3Error."""
        signed = _signed(request)
        try:
            claim = sigv4.read_claim(signed)
            launch = self._launch(claim.access_key_id)
            keys = triple_of(self._master_key, launch.id)
            signer = sigv4.verify(signed, claim, keys.secret, keys.session_token, time.time())
            query = dict(sigv4.parse_query(signed.query))
        except SignatureError as error:
            code = error.code if error.code in STATUS else "AccessDenied"
            raise S3Error(code, str(error)) from None
        if not launch.live(time.time()):
            raise S3Error("AccessDenied", "This launch has ended, and its storage credentials with it.")
        bucket, key = _names(signed.path)
        return Call(request, launch, self._stores, bucket, key, query, Body(request.content, signed, claim, signer))

    def _launch(self, access_key_id: str) -> StoredLaunch:
        launch_id = launch_of(access_key_id)
        launch = self._table.get(launch_id) if launch_id else None
        if launch is None:
            raise S3Error("InvalidAccessKeyId", "These are not the credentials of any launch here.")
        return launch

    def _route(self, call: Call) -> Route:
        _check_headers(call)
        level = "object" if call.key else "bucket" if call.bucket_name else "service"
        parameters = frozenset(name for name in call.query if not name.startswith("X-Amz-") and name != "x-id")
        copies = bool(call.header("x-amz-copy-source"))
        route = route_of(call.request.method, level, parameters, copies)
        if route is None:
            raise S3Error("NotImplemented", "This S3 operation, or one of its parameters, is not known here.")
        return route

    async def _run(self, route: Route, call: Call) -> web.StreamResponse:
        task = asyncio.current_task()
        assert task is not None
        running = self._running.setdefault(call.launch.id, {})
        if len(running) >= MAX_REQUESTS:
            raise S3Error("SlowDown", f"This launch has more than {MAX_REQUESTS} requests at a time.")
        running[task] = call.request
        try:
            return await route.handler(call)
        finally:
            running.pop(task, None)
            if not running:
                self._running.pop(call.launch.id, None)


def _finished(request: web.BaseRequest, answer: web.StreamResponse, request_id: str) -> web.StreamResponse:
    if not answer.prepared:
        answer.headers["Server"] = SERVER
        answer.headers["x-amz-request-id"] = request_id
        if request.headers.get("Expect") and answer.status >= 400:
            answer.force_close()  # the body was never asked for, so nobody knows whether it comes
    return answer


def _signed(request: web.BaseRequest) -> SignedRequest:
    path, _, query = request.raw_path.partition("?")
    if not path.startswith("/"):
        raise S3Error("InvalidRequest", "The request's path must begin with a slash.")
    headers = tuple((name.lower(), value) for name, value in request.headers.items())
    return SignedRequest(request.method, path, query, headers)


def _names(path: str) -> tuple[str, str]:
    try:
        bucket, _, key = unquote_to_bytes(path.encode("utf-8", "surrogateescape")).decode()[1:].partition("/")
    except UnicodeDecodeError:
        raise S3Error("InvalidArgument", "The key is not valid UTF-8.") from None
    return bucket, key


def _check_headers(call: Call) -> None:
    """Refuse what would cost somebody money, or what would be promised but not done. Raises S3Error."""
    names = [name for name, _ in call.body.request.headers]
    if "x-amz-request-payer" in names:
        raise S3Error("AccessDenied", "Buckets whose requester pays cannot be read here.")
    if any(name.startswith(_REFUSED_HEADERS) for name in names) or call.header("x-amz-acl") not in _PRIVATE_ACLS:
        raise S3Error("NotImplemented", "A header of this request asks for something that is not known here.")
