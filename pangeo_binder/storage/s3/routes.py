"""The table of the S3 front: every operation, with all parameters, headers and conditions it understands.

A request with anything else is answered `NotImplemented` (501): a header that is ignored may be a condition whose loss
destroys data. Decisions only; not for HTTP (`front`) nor for what the operations do.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web

from . import deletes, listing, multipart, objects
from .call import Call
from .checksums import HEADER, NAMES
from .conditions import SOURCE
from .errors import S3Error

Handler = Callable[[Call], Awaitable[web.StreamResponse]]

_PRIVATE_ACLS = ("private", "bucket-owner-full-control")
_VALUES = {
    "x-amz-acl": _PRIVATE_ACLS,
    "x-amz-storage-class": ("STANDARD",),
    "x-amz-metadata-directive": ("COPY", "REPLACE"),
    "x-amz-tagging-directive": ("COPY",),
}
"""Headers of which only some values are what the store does anyway."""
_SIGNATURE_PARAMETERS = {
    f"X-Amz-{name}"
    for name in ("Algorithm", "Credential", "Date", "Expires", "SignedHeaders", "Signature", "Security-Token",
                 "Content-Sha256")
}  # fmt: skip
_IGNORED_PARAMETERS = frozenset(_SIGNATURE_PARAMETERS | {"x-id"})
"""Parameters of presigned URLs, which `sigv4` reads, and the operation's name, which some SDKs add."""


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


_ALWAYS = _set("x-amz-date x-amz-content-sha256 x-amz-security-token x-amz-user-agent")
_BODY = _set("x-amz-decoded-content-length x-amz-trailer x-amz-sdk-checksum-algorithm") | {HEADER + n for n in NAMES}
_READ = _set("if-match if-none-match if-modified-since if-unmodified-since if-range x-amz-checksum-mode")
_WRITE = _set("if-match if-none-match")
_ABOUT = _set("x-amz-acl x-amz-storage-class x-amz-meta-*")
"""What a client says about an object. Metadata is accepted and not stored, as docs/storage.md says."""
_COPY = _set("x-amz-copy-source") | {
    f"{SOURCE}{name}" for name in ("if-match", "if-none-match", "if-modified-since", "if-unmodified-since")
}
_DIRECTIVES = _set("x-amz-metadata-directive x-amz-tagging-directive x-amz-checksum-algorithm")
_DELETE = _set("if-match x-amz-if-match-size x-amz-if-match-last-modified-time")
_CREATE = _set("x-amz-checksum-algorithm x-amz-checksum-type")
_COMPLETE = _set("x-amz-checksum-type x-amz-mp-object-size")
_CONDITIONS = ("if-", "x-amz-if-", f"{SOURCE}if-")
_LIST = _set("prefix delimiter max-keys encoding-type")
_PART = _set("partNumber uploadId")


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
    headers: frozenset[str] = frozenset()
    """The `x-amz-*` headers and conditions it understands, in addition to those of every request."""
    copies: bool = False
    """Whether it requires the header `x-amz-copy-source`."""


ROUTES = (
    Route("ListBuckets", "GET", "service", listing.list_buckets),
    Route("HeadBucket", "HEAD", "bucket", listing.head_bucket),
    Route("GetBucketLocation", "GET", "bucket", listing.bucket_location, _set("location")),
    Route(
        "ListObjectsV2", "GET", "bucket", listing.list_objects_v2, _set("list-type"),
        _LIST | _set("continuation-token start-after fetch-owner"),
    ),
    Route("ListObjects", "GET", "bucket", listing.list_objects_v1, takes=_LIST | _set("marker")),
    Route("DeleteObjects", "POST", "bucket", deletes.delete_objects, _set("delete"), headers=_BODY),
    Route("GetObject", "GET", "object", objects.get_object, headers=_READ),
    Route("HeadObject", "HEAD", "object", objects.head_object, headers=_READ),
    Route("PutObject", "PUT", "object", objects.put_object, headers=_BODY | _WRITE | _ABOUT),
    Route(
        "CopyObject", "PUT", "object", objects.copy_object,
        headers=_WRITE | _ABOUT | _COPY | _DIRECTIVES, copies=True,
    ),
    Route("DeleteObject", "DELETE", "object", deletes.delete_object, headers=_DELETE),
    Route(
        "CreateMultipartUpload", "POST", "object", multipart.create_upload, _set("uploads"), headers=_ABOUT | _CREATE
    ),
    Route("UploadPart", "PUT", "object", multipart.upload_part, _PART, headers=_BODY),
    Route(
        "UploadPartCopy", "PUT", "object", multipart.upload_part_copy, _PART,
        headers=_COPY | {f"{SOURCE}range"}, copies=True,
    ),
    Route("ListParts", "GET", "object", multipart.list_parts, _set("uploadId"), _set("max-parts part-number-marker")),
    Route(
        "CompleteMultipartUpload", "POST", "object", multipart.complete_upload, _set("uploadId"),
        headers=_BODY | _WRITE | _COMPLETE,
    ),
    Route("AbortMultipartUpload", "DELETE", "object", multipart.abort_upload, _set("uploadId")),
)  # fmt: skip


def find_route(call: Call) -> Route:
    """Return the route of `call`. Raises S3Error if any part of the request is not understood."""
    level = "object" if call.key else "bucket" if call.bucket_name else "service"
    parameters = frozenset(call.query) - _IGNORED_PARAMETERS
    shape = (call.request.method, level, bool(call.header("x-amz-copy-source")))
    for route in ROUTES:
        if (
            shape == (route.method, route.level, route.copies)
            and route.needs <= parameters <= route.needs | route.takes
        ):
            _check_headers(call, route)
            return route
    raise S3Error("NotImplemented", "This S3 operation, or one of its parameters, is not supported.")


def _check_headers(call: Call, route: Route) -> None:
    """Refuse headers that the route does not understand, or that cost the owner of a bucket. Raises S3Error."""
    for name, value in call.body.request.headers:
        if name == "x-amz-request-payer":
            raise S3Error("AccessDenied", "Requester-pays buckets are not supported.")
        if not _is_checked(name):
            continue
        known = name in _ALWAYS or name in route.headers
        if not known and not (name.startswith("x-amz-meta-") and "x-amz-meta-*" in route.headers):
            raise S3Error("NotImplemented", f"{route.operation} does not support the header {name}.")
        if name in _VALUES and value.strip() not in _VALUES[name]:
            raise S3Error("NotImplemented", f"The store does not support this value of the header {name}.")
        if name.startswith(_CONDITIONS) and not value.strip():
            raise S3Error("InvalidArgument", f"The condition {name} is empty.")


def _is_checked(name: str) -> bool:
    """Return whether a header, if ignored, could change what a request means."""
    return name.startswith(("x-amz-", "if-")) or name == "content-range"
