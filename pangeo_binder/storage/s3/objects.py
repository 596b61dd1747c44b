"""Operations on single objects: get, head, put and copy.

A write is checked, reserved and spooled; then its conditions are checked and it is moved to its key, under the key's
lock. Format: https://docs.aws.amazon.com/AmazonS3/latest/API/API_Operations.html
"""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

from aiohttp import web

from ...metrics import STORAGE_BYTES
from ..quota import Amount, Reservation
from ..scope import Operation
from .answers import iso, object_headers, xml
from .body import MAX_BODY_BYTES, receive
from .bucket import WINDOW_BYTES, Bucket, ObjectInfo, OpenObject, Span
from .call import Call
from .conditions import check_source, check_write, is_not_modified
from .errors import S3Error, no_such_key
from .filework import in_file_thread
from .spool import Spool

_SPAN = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


def parse_span(text: str) -> Span | None:
    """Return the span of a Range header; None (the whole object) if absent or malformed, as HTTP requires."""
    match = _SPAN.fullmatch(text.replace(" ", ""))
    if match is None or match.group(0) == "bytes=-":
        return None
    first, last = match.groups()
    if not first:
        return Span(suffix=int(last))
    if last and int(last) < int(first):
        return None
    return Span(int(first), int(last) + 1 if last else None)


def _span(call: Call) -> Span | None:
    """Return the span to read; with If-Range the whole object, which HTTP allows and which is never a wrong version."""
    return None if call.header("if-range") else parse_span(call.header("range"))


async def get_object(call: Call) -> web.StreamResponse:
    """GetObject, with Range and conditions."""
    span = _span(call)
    opened = None if call.key.endswith("/") else await call.bucket(Operation.READ).open(call.key, span)
    if opened is None:
        raise _missing(call)
    try:
        if is_not_modified(call.header, opened.found):
            return web.Response(status=304, headers=object_headers(opened.found))
        return await _send(call, opened, partial=span is not None)
    finally:
        await opened.close()


async def _send(call: Call, opened: OpenObject, partial: bool) -> web.StreamResponse:
    length = opened.end - opened.start
    headers = object_headers(opened.found)
    if partial:
        headers["Content-Range"] = f"bytes {opened.start}-{opened.end - 1}/{opened.found.size}"
    status = 206 if partial else 200
    call.reserve_egress(length)
    sent = 0
    try:
        if length <= WINDOW_BYTES:  # headers and body in one packet
            body = b"".join([chunk async for chunk in opened.chunks])
            sent = len(body)
            if sent != length:
                raise S3Error("ServiceUnavailable", "The object changed during the read; try again.")
            return web.Response(status=status, headers=headers, body=body)
        response = web.StreamResponse(status=status, headers=headers)
        response.content_length = length
        await response.prepare(call.request)
        async for chunk in opened.chunks:
            if not call.launch.live(call.now()):
                break
            await response.write(chunk)
            sent += len(chunk)
        if sent != length and call.request.transport is not None:
            call.request.transport.abort()  # the length was already sent: only a closed connection signals failure
        return response
    finally:
        call.launch.usage.egress -= length - sent
        STORAGE_BYTES.labels("out").inc(sent)


async def head_object(call: Call) -> web.StreamResponse:
    """HeadObject."""
    found = None if call.key.endswith("/") else await call.bucket(Operation.EXISTS).head(call.key)
    if found is None:
        raise _missing(call)
    headers, status, length = object_headers(found), 200, found.size
    if is_not_modified(call.header, found):
        return web.Response(status=304, headers=headers)
    if span := _span(call):
        start, end = span.within(found.size)
        status, length = 206, end - start
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{found.size}"
    response = web.StreamResponse(status=status, headers=headers)
    response.content_length = length
    await response.prepare(call.request)
    return response


def _missing(call: Call) -> S3Error:
    """Return 404 if the launch may list the key: zarr reports a 403 as a broken store."""
    call.check(Operation.LIST)
    return no_such_key(call.key)


async def put_object(call: Call) -> web.StreamResponse:
    """PutObject, with `If-None-Match: *` and `If-Match`."""
    bucket = call.bucket(Operation.WRITE)
    size = call.body.size()
    target = await bucket.target(call.key)
    check_write(call.header, call.key, target.existing)
    with (
        call.reserve(size, target.size, target.new_files) as reservation,
        Spool(call.stores.staging, call.header("content-type")) as spool,
    ):
        await continue_body(call)
        await receive(call.body, spool)
        found = await commit(call, bucket, spool, reservation)
    return web.Response(headers={"ETag": f'"{found.etag}"'})


async def continue_body(call: Call) -> None:
    """Send `100 Continue` to a client that waits for it; called only after the request was allowed."""
    if call.header("expect").lower() == "100-continue":
        writer = call.request.writer
        await writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        writer.output_size = 0


async def commit(call: Call, bucket: Bucket, spool: Spool, reservation: Reservation) -> ObjectInfo:
    """Write `spool` to the call's key if its conditions hold, and commit its reservation."""
    async with call.stores.locks.hold(call.lock()):
        existing = await bucket.head(call.key)
        check_write(call.header, call.key, existing)
        found = await bucket.write(call.key, spool, create=call.header("if-none-match") == "*")
        stored = Amount(found.size, found.made_folders + (existing is None))
        reservation.commit(stored, existing.size if existing else 0)
    return found


async def copy_object(call: Call) -> web.StreamResponse:
    """CopyObject; its source is checked as a read."""
    bucket = call.bucket(Operation.WRITE)
    target = await bucket.target(call.key)
    check_write(call.header, call.key, target.existing)
    with Spool(call.stores.staging, call.header("content-type")) as spool:
        opened = await open_source(call, None)
        try:
            size = opened.found.size
            if size > MAX_BODY_BYTES:
                raise S3Error("InvalidRequest", "Objects over 5 GiB must be copied in parts.")
            with call.reserve(size, target.size, target.new_files) as reservation:
                await fill(spool, opened)
                found = await commit(call, bucket, spool, reservation)
        finally:
            await opened.close()
    return xml(("CopyObjectResult", [("ETag", f'"{found.etag}"'), ("LastModified", iso(found.modified))]))


async def open_source(call: Call, span: Span | None) -> OpenObject:
    """Open the object in `x-amz-copy-source` if the launch may read it; count catalogue objects as read."""
    path, _, version = call.header("x-amz-copy-source").partition("?")
    if version:
        raise S3Error("NotImplemented", "Versions are not supported.")
    try:
        bucket, _, key = unquote_to_bytes(path).decode().removeprefix("/").partition("/")
    except UnicodeDecodeError:
        raise S3Error("InvalidArgument", "The copy source is not valid UTF-8.") from None
    location = call.check(Operation.READ, key, bucket)
    opened = await call.stores.at(location).open(key, span)
    if opened is None:
        raise no_such_key(key)
    try:
        check_source(call.header, opened.found)
        if location.entry is not None:
            call.reserve_egress(opened.end - opened.start)
    except S3Error:
        await opened.close()
        raise
    return opened


async def fill(spool: Spool, opened: OpenObject) -> None:
    """Read `opened` into `spool`."""
    async for chunk in opened.chunks:
        await in_file_thread(spool.append, chunk)
    if spool.size != opened.end - opened.start:
        raise S3Error("ServiceUnavailable", "The source changed during the read; try again.")
