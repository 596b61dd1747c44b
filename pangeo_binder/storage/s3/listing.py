"""Lists buckets, and objects in both of S3's versions; never anything outside the launch's scope.

Order and paging are by the keys' UTF-8 bytes; a continuation token is the last listed key. The only delimiter is the
slash. Format: https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html
"""

from __future__ import annotations

import base64
import binascii
from urllib.parse import quote

from aiohttp import web

from ..scope import Location, Operation
from .answers import Node, iso, xml
from .bucket import Bucket, ObjectInfo, Page, Query
from .call import Call
from .errors import S3Error
from .filework import in_walk_thread

MAX_KEYS = 1000
REGION = "us-east-1"
_EPOCH = "2020-01-01T00:00:00.000Z"


async def list_buckets(call: Call) -> web.StreamResponse:
    """ListBuckets: only the buckets in scope."""
    names = call.launch.scope.buckets
    buckets: list[Node] = [("Bucket", [("Name", name), ("CreationDate", _EPOCH)]) for name in names]
    return xml(("ListAllMyBucketsResult", [*_owner(call), ("Buckets", buckets)]))


def _owner(call: Call) -> list[Node]:
    return [("Owner", [("ID", call.launch.id), ("DisplayName", call.launch.id)])]


def _check_bucket(call: Call) -> None:
    if call.bucket_name not in call.launch.scope.buckets:
        raise S3Error("AccessDenied", f"This launch has no access to the bucket {call.bucket_name!r}.")


async def head_bucket(call: Call) -> web.StreamResponse:
    """HeadBucket."""
    _check_bucket(call)
    return web.Response(headers={"x-amz-bucket-region": REGION})


async def bucket_location(call: Call) -> web.StreamResponse:
    """GetBucketLocation; empty means us-east-1."""
    _check_bucket(call)
    return xml(("LocationConstraint", ""))


async def list_objects_v2(call: Call) -> web.StreamResponse:
    """ListObjectsV2."""
    token, start = call.query.get("continuation-token", ""), call.query.get("start-after", "")
    query, page = await _page(call, _from_token(token) if token else start)
    encode = _encoder(call)
    about: list[Node] = [("KeyCount", str(len(page.objects) + len(page.prefixes)))]
    about += [("ContinuationToken", token)] if token else []
    about += [("StartAfter", encode(start))] if start else []
    about += [("NextContinuationToken", _to_token(page.more_after))] if page.more_after else []
    return await in_walk_thread(_answer, call, query, page, about)


async def list_objects_v1(call: Call) -> web.StreamResponse:
    """ListObjects."""
    marker = call.query.get("marker", "")
    query, page = await _page(call, marker)
    encode = _encoder(call)
    about: list[Node] = [("Marker", encode(marker))]
    about += [("NextMarker", encode(page.more_after))] if page.more_after else []
    return await in_walk_thread(_answer, call, query, page, about)


def _answer(call: Call, query: Query, page: Page, about: list[Node]) -> web.Response:
    """Return a page as a document, which may have megabytes: runs in a thread."""
    return xml(("ListBucketResult", [*_about(call, query, page), *about, *_entries(call, page)]))


async def _page(call: Call, after: str) -> tuple[Query, Page]:
    delimiter = call.query.get("delimiter", "")
    if delimiter not in ("", "/"):
        raise S3Error("NotImplemented", "The only supported delimiter is the slash.")
    prefix = call.query.get("prefix", "")
    query = Query(prefix, delimiter == "/", after, _limit(call))
    location = call.check(Operation.LIST, prefix)
    bucket = call.stores.at(location)
    if query.limit == 0:
        return query, Page((), ())
    page = await (bucket.scan(query) if location.contains(prefix) else _scan_bare_prefix(bucket, location, query))
    return query, _visible(call, page)


async def _scan_bare_prefix(bucket: Bucket, location: Location, query: Query) -> Page:
    """List a location's prefix without its slash, as clients do to check whether it exists."""
    deep = Query(location.prefix, False, query.after, query.limit)
    if query.delimiter:
        some = (await bucket.scan(Query(location.prefix, limit=1))).objects
        return Page((), (location.prefix,) if some and location.prefix > query.after else ())
    return await bucket.scan(deep)


def _visible(call: Call, page: Page) -> Page:
    is_visible = call.launch.scope.is_visible
    objects = tuple(found for found in page.objects if is_visible(call.bucket_name, found.key))
    prefixes = tuple(prefix for prefix in page.prefixes if is_visible(call.bucket_name, prefix))
    return Page(objects, prefixes, page.more_after)


def _limit(call: Call) -> int:
    text = call.query.get("max-keys", "") or str(MAX_KEYS)
    if not (text.isascii() and text.isdecimal() and len(text) < 12):
        raise S3Error("InvalidArgument", "max-keys must be a number.")
    return min(MAX_KEYS, int(text))


def _encoder(call: Call) -> _Encoder:
    kind = call.query.get("encoding-type", "")
    if kind not in ("", "url"):
        raise S3Error("InvalidArgument", "The only supported encoding-type is url.")
    return _Encoder(kind == "url")


class _Encoder:
    """Encoder of keys, in the encoding the client requested."""

    def __init__(self, url: bool) -> None:
        self._url = url

    def __call__(self, key: str) -> str:
        return quote(key, safe="/") if self._url else key


def _about(call: Call, query: Query, page: Page) -> list[Node]:
    encode = _encoder(call)
    nodes: list[Node] = [("Name", call.bucket_name), ("Prefix", encode(query.prefix)), ("MaxKeys", str(query.limit))]
    nodes += [("Delimiter", "/")] if query.delimiter else []
    nodes += [("EncodingType", "url")] if call.query.get("encoding-type") else []
    return [*nodes, ("IsTruncated", "true" if page.more_after else "false")]


def _entries(call: Call, page: Page) -> list[Node]:
    encode = _encoder(call)
    owner = _owner(call) if call.query.get("fetch-owner", "").lower() == "true" else []
    nodes: list[Node] = [("Contents", [*_contents(found, encode), *owner]) for found in page.objects]
    return nodes + [("CommonPrefixes", [("Prefix", encode(prefix))]) for prefix in page.prefixes]


def _contents(found: ObjectInfo, encode: _Encoder) -> list[Node]:
    fields: list[Node] = [("Key", encode(found.key)), ("LastModified", iso(found.modified))]
    return [*fields, ("ETag", f'"{found.etag}"'), ("Size", str(found.size)), ("StorageClass", "STANDARD")]


def _to_token(key: str) -> str:
    return base64.urlsafe_b64encode(key.encode()).decode()


def _from_token(token: str) -> str:
    try:
        return base64.urlsafe_b64decode(token.encode()).decode()
    except (binascii.Error, ValueError):
        raise S3Error("InvalidArgument", "The continuation token is not valid.") from None
