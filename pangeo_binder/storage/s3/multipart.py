"""Multipart uploads: create, upload and copy parts, list, complete, abort.

Format: https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html. Each part is verified and counted on
arrival. Complete copies the parts into one file, records what it is about to make, and moves the file to its key; the
parts stay until then. Complete identifies parts by their ETags, so it does not check the parts' checksums again.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import pairwise
from xml.etree.ElementTree import Element

from aiohttp import web

from ..quota import Amount
from ..scope import Operation
from .answers import Node, iso, xml
from .body import MAX_BODY_BYTES, receive
from .call import Call
from .checksums import NAMES
from .conditions import check_write
from .documents import MAX_PARTS_BYTES, fields_of, read_document
from .errors import S3Error
from .filework import in_copy_thread, in_file_thread
from .keepalive import answer_when_done
from .objects import continue_body, fill, open_source, parse_span
from .spool import Spool
from .uploads import MAX_PARTS, UPLOAD_FILES, Completion, Part, Upload
from .whole import check_whole


async def create_upload(call: Call) -> web.StreamResponse:
    """CreateMultipartUpload; a key that cannot be an object is refused now, not after all parts were sent."""
    bucket = call.bucket(Operation.WRITE)
    await bucket.target(call.key)
    limits, about = call.launch.limits, call.header("content-type")
    with call.reserve(0, files=UPLOAD_FILES) as reservation:
        upload = await in_file_thread(call.stores.uploads.begin, call.launch.id, call.key, about, limits.uploads)
        reservation.commit(Amount(files=UPLOAD_FILES))
    return xml(("InitiateMultipartUploadResult", [*_named(call), ("UploadId", upload.id)]))


def _named(call: Call) -> list[Node]:
    return [("Bucket", call.bucket_name), ("Key", call.key)]


async def _upload(call: Call) -> Upload:
    call.check(Operation.WRITE)
    return await in_file_thread(call.stores.uploads.find, call.launch.id, call.query["uploadId"], call.key)


def _number(call: Call) -> int:
    text = call.query["partNumber"]
    if not (text.isascii() and text.isdecimal() and len(text) < 6 and 1 <= int(text) <= MAX_PARTS):
        raise S3Error("InvalidArgument", f"The part number must be between 1 and {MAX_PARTS}.")
    return int(text)


async def upload_part(call: Call) -> web.StreamResponse:
    """UploadPart."""
    number, upload = _number(call), await _upload(call)
    size = call.body.size()
    with call.reserve(size, files=1) as reservation, Spool(call.stores.staging) as spool:
        await continue_body(call)
        await receive(call.body, spool)
        md5 = await _store_part(call, upload, number, spool)
        reservation.commit(Amount())
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
        with call.reserve(opened.end - opened.start, files=1) as reservation, Spool(call.stores.staging) as spool:
            await fill(spool, opened)
            md5 = await _store_part(call, upload, number, spool)
            reservation.commit(Amount())
    finally:
        await opened.close()
    return xml(("CopyPartResult", [("ETag", f'"{md5}"'), ("LastModified", iso(opened.found.modified))]))


async def _store_part(call: Call, upload: Upload, number: int, spool: Spool) -> str:
    """Store `spool` as a part, and count the bytes by which the upload grew."""
    async with call.stores.locks.hold(upload.id):
        try:
            old = await in_file_thread(upload.part, number)
            md5 = await in_file_thread(call.stores.uploads.store, upload, number, spool)
        except FileNotFoundError:
            raise S3Error("NoSuchUpload", "The upload was completed or aborted during this request.") from None
        call.launch.add(Amount(spool.size - (old.size if old else 0), old is None))
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
    """CompleteMultipartUpload, with `If-None-Match: *` and `If-Match`; repeating it gives the same answer."""
    call.check(Operation.WRITE)
    document = await read_document(call, "CompleteMultipartUpload", MAX_PARTS_BYTES, has_checksums=False)
    wanted = await in_file_thread(_wanted, document)
    return await answer_when_done(call, _complete(call, wanted))


async def _complete(call: Call, wanted: list[_Wanted]) -> Node:
    digest = await in_file_thread(_digest, wanted)
    upload_id = call.query["uploadId"]
    with call.launch.files.writing():  # the request may end before, if its client closes the connection
        async with call.stores.locks.hold(upload_id):
            done = await in_file_thread(call.stores.uploads.completion, call.launch.id, upload_id)
            if done is None or (done.key, done.parts) != (call.key, digest):
                done = await _finish(call, await _upload(call), wanted, digest)
    location = f"/{call.bucket_name}/{call.key}"
    return ("CompleteMultipartUploadResult", [("Location", location), *_named(call), ("ETag", f'"{done.etag}"')])


def _digest(wanted: list[_Wanted]) -> str:
    return hashlib.sha256(repr([(one.number, one.etag) for one in wanted]).encode()).hexdigest()


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


async def _finish(call: Call, upload: Upload, wanted: list[_Wanted], digest: str) -> Completion:
    """Make the object from the wanted parts, which stay until it is on the disk."""
    parts = await in_file_thread(upload.parts)
    bucket = call.bucket(Operation.WRITE)
    async with call.stores.locks.hold(call.lock()):
        target = await bucket.target(call.key)
        intent = await in_file_thread(upload.intent)
        if intent and intent.parts == digest and target.existing and target.existing.etag == intent.etag:
            await _finish_upload(call, upload, parts, Amount())  # the process was killed after it made the object
            return intent
        good = _choose(parts, wanted)
        check_write(call.header, call.key, target.existing)
        _check_size(call, good)
        with Spool(call.stores.staging, upload.content_type) as spool, call.reserve(0, files=target.new_files) as room:
            await in_copy_thread(spool.join, [part.path for part in good])
            await check_whole(call, spool, good)
            completion = Completion(call.key, await bucket.expected_etag(spool), digest)
            await in_file_thread(call.stores.uploads.intend, upload, completion)
            if not call.launch.live(call.now()):
                raise S3Error("AccessDenied", "This launch ended during this request.")
            found = await bucket.write(call.key, spool, create=call.header("if-none-match") == "*")
            stored = Amount(found.size - target.size, found.made_folders + (target.existing is None))
            room.close()
        await _finish_upload(call, upload, parts, stored)
    return completion


async def _finish_upload(call: Call, upload: Upload, parts: list[Part], stored: Amount) -> None:
    await in_file_thread(call.stores.uploads.finish, call.launch.id, upload)
    held = sum(part.size for part in parts)
    call.launch.add(Amount(stored.size - held, stored.files - len(parts) - UPLOAD_FILES))


def _choose(parts: list[Part], wanted: list[_Wanted]) -> list[Part]:
    numbered = {part.number: part for part in parts}
    chosen = [numbered.get(one.number) for one in wanted]
    good = [part for part, one in zip(chosen, wanted, strict=True) if part is not None and part.md5 == one.etag]
    if len(good) != len(wanted):
        raise S3Error("InvalidPart", "A part is missing or has another ETag.")
    return good


def _check_size(call: Call, good: list[Part]) -> None:
    expected = call.header("x-amz-mp-object-size")
    if expected and expected != str(sum(part.size for part in good)):
        raise S3Error("InvalidRequest", "The parts together do not have the size that the request requires.")


async def abort_upload(call: Call) -> web.StreamResponse:
    """AbortMultipartUpload."""
    async with call.stores.locks.hold(call.query["uploadId"]):
        upload = await _upload(call)
        parts = await in_file_thread(upload.parts)
        await in_file_thread(upload.delete)
        call.launch.add(Amount(-sum(part.size for part in parts), -len(parts) - UPLOAD_FILES))
    return web.Response(status=204)
