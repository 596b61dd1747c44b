"""Multipart uploads: create, upload and copy parts, list, complete, abort.

Format: https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html. Each part is verified and counted on
arrival; Complete joins the parts and writes the object atomically. It does not check the checksums sent with Complete,
because each part's was checked.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from xml.etree.ElementTree import Element

from aiohttp import web

from ..scope import Operation
from . import uploads
from .answers import Node, iso, xml
from .body import MAX_BODY_BYTES, receive
from .call import Call
from .checksums import NAMES
from .conditions import check_write
from .documents import MAX_PARTS_BYTES, fields_of, read_document
from .errors import S3Error
from .filework import in_file_thread
from .objects import continue_body, fill, open_source, parse_span
from .spool import Spool
from .uploads import Part, Upload


async def create_upload(call: Call) -> web.StreamResponse:
    """CreateMultipartUpload."""
    call.check(Operation.WRITE)
    upload = await in_file_thread(
        uploads.begin, call.stores.uploads, call.launch.id, call.key, call.header("content-type")
    )
    return xml(("InitiateMultipartUploadResult", [*_named(call), ("UploadId", upload.id)]))


def _named(call: Call) -> list[Node]:
    return [("Bucket", call.bucket_name), ("Key", call.key)]


async def _upload(call: Call) -> Upload:
    call.check(Operation.WRITE)
    return await in_file_thread(uploads.find, call.stores.uploads, call.launch.id, call.query["uploadId"], call.key)


def _number(call: Call) -> int:
    text = call.query["partNumber"]
    if not (text.isascii() and text.isdecimal() and len(text) < 6 and 1 <= int(text) <= uploads.MAX_PARTS):
        raise S3Error("InvalidArgument", f"The part number must be between 1 and {uploads.MAX_PARTS}.")
    return int(text)


async def upload_part(call: Call) -> web.StreamResponse:
    """UploadPart."""
    number, upload = _number(call), await _upload(call)
    size = call.body.size()
    with call.reserve(size) as reservation, Spool(call.stores.staging) as spool:
        await continue_body(call)
        await receive(call.body, spool)
        md5 = await _store_part(call, upload, number, spool)
        reservation.commit(0)
    return web.Response(headers={"ETag": f'"{md5}"'})


async def upload_part_copy(call: Call) -> web.StreamResponse:
    """UploadPartCopy; its source is checked as a read."""
    number, upload = _number(call), await _upload(call)
    text = call.header("x-amz-copy-source-range")
    span = parse_span(text)
    if text and span is None:
        raise S3Error("InvalidArgument", "The copy source range must have the form bytes=first-last.")
    opened = await open_source(call, span)
    try:
        if opened.end - opened.start > MAX_BODY_BYTES:
            raise S3Error("InvalidRequest", "The source of a part must be at most 5 GiB.")
        with call.reserve(opened.end - opened.start) as reservation, Spool(call.stores.staging) as spool:
            await fill(spool, opened)
            md5 = await _store_part(call, upload, number, spool)
            reservation.commit(0)
    finally:
        await opened.close()
    return xml(("CopyPartResult", [("ETag", f'"{md5}"'), ("LastModified", iso(opened.found.modified))]))


async def _store_part(call: Call, upload: Upload, number: int, spool: Spool) -> str:
    """Store `spool` as a part, and count the bytes by which the upload grew."""
    async with call.stores.locks.hold(upload.id):
        try:
            old = await in_file_thread(upload.part, number)
            md5 = await in_file_thread(upload.store, number, spool)
        except FileNotFoundError:
            raise S3Error("NoSuchUpload", "The upload was completed or aborted during this request.") from None
        call.launch.usage.stored += spool.size - (old.size if old else 0)
    return md5


async def list_parts(call: Call) -> web.StreamResponse:
    """ListParts."""
    upload = await _upload(call)
    after, limit = _count(call, "part-number-marker", 0), min(1000, _count(call, "max-parts", 1000))
    parts = [part for part in await in_file_thread(upload.parts) if part.number > after]
    shown = parts[:limit]
    nodes: list[Node] = [*_named(call), ("UploadId", upload.id), ("MaxParts", str(limit))]
    nodes += [("IsTruncated", "true" if len(parts) > limit else "false")]
    nodes += [("NextPartNumberMarker", str(shown[-1].number))] if shown else []
    return xml(("ListPartsResult", [*nodes, *(_part_node(part) for part in shown)]))


def _part_node(part: Part) -> Node:
    fields: list[Node] = [("PartNumber", str(part.number)), ("LastModified", iso(part.modified))]
    return ("Part", [*fields, ("ETag", f'"{part.md5}"'), ("Size", str(part.size))])


def _count(call: Call, name: str, default: int) -> int:
    text = call.query.get(name, "")
    if text and not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise S3Error("InvalidArgument", f"{name} must be a number.")
    return int(text) if text else default


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A part named by Complete."""

    number: int
    etag: str


_CHECKSUMS = frozenset(f"Checksum{name.upper()}" for name in NAMES)
_PART_FIELDS = frozenset({"PartNumber", "ETag"}) | _CHECKSUMS


async def complete_upload(call: Call) -> web.StreamResponse:
    """CompleteMultipartUpload, with `If-None-Match: *` and `If-Match`."""
    wanted = _wanted(await read_document(call, "CompleteMultipartUpload", MAX_PARTS_BYTES))
    async with call.stores.locks.hold(call.query["uploadId"]):
        upload = await _upload(call)
        etag = await _finish(call, upload, wanted)
    location = f"/{call.bucket_name}/{call.key}"
    return xml(("CompleteMultipartUploadResult", [("Location", location), *_named(call), ("ETag", f'"{etag}"')]))


def _wanted(document: Element) -> list[_Wanted]:
    wanted = []
    for node in document:
        if node.tag != "Part":
            raise S3Error("NotImplemented", f"The element {node.tag} is not supported here.")
        fields = fields_of(node, _PART_FIELDS)
        number = fields.get("PartNumber", "")
        if not (number.isascii() and number.isdecimal() and len(number) < 6):
            raise S3Error("MalformedXML", "The body must list parts, each with its number and ETag.")
        wanted.append(_Wanted(int(number), fields.get("ETag", "").strip('"')))
    if not wanted:
        raise S3Error("MalformedXML", "The body must list at least one part.")
    if any(one.number >= other.number for one, other in pairwise(wanted)):
        raise S3Error("InvalidPartOrder", "The parts must be listed in ascending order.")
    return wanted


async def _finish(call: Call, upload: Upload, wanted: list[_Wanted]) -> str:
    """Join the wanted parts into the object at the upload's key; return its ETag."""
    parts = {part.number: part for part in await in_file_thread(upload.parts)}
    chosen = [parts.get(one.number) for one in wanted]
    good = [part for part, one in zip(chosen, wanted, strict=True) if part is not None and part.md5 == one.etag]
    if len(good) != len(wanted):
        raise S3Error("InvalidPart", "A part is missing or has another ETag.")
    bucket = call.bucket(Operation.WRITE)
    held = sum(part.size for part in parts.values())
    async with call.stores.locks.hold(call.lock()):
        existing = await bucket.head(call.key)
        check_write(call.header, call.key, existing)
        with Spool(call.stores.staging, upload.content_type) as spool:
            await in_file_thread(spool.join, [part.path for part in good])
            try:
                found = await bucket.write(call.key, spool, create=call.header("if-none-match") == "*")
            except S3Error:  # joining consumed the parts, so the upload cannot continue
                await _delete_upload(call, upload, held)
                raise
        await _delete_upload(call, upload, held)
        call.launch.usage.stored += found.size - (existing.size if existing else 0)
    return found.etag


async def _delete_upload(call: Call, upload: Upload, held: int) -> None:
    await in_file_thread(upload.delete)
    call.launch.usage.stored = max(0, call.launch.usage.stored - held)


async def abort_upload(call: Call) -> web.StreamResponse:
    """AbortMultipartUpload."""
    async with call.stores.locks.hold(call.query["uploadId"]):
        upload = await _upload(call)
        await _delete_upload(call, upload, await in_file_thread(upload.size))
    return web.Response(status=204)
