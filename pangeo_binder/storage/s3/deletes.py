"""Operations that delete objects: one, or a list of them; with conditions.

Format: https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html. Not for aborting uploads (`multipart`).
"""

from __future__ import annotations

from xml.etree.ElementTree import Element

from aiohttp import web

from ..quota import Amount
from ..scope import Operation
from .answers import Node, xml
from .call import Call
from .conditions import DeleteCondition
from .documents import fields_of, read_document
from .errors import S3Error

MAX_DELETE_KEYS = 1000
_ROOT = frozenset({"Object", "Quiet"})
_OBJECT = frozenset({"Key", "ETag", "LastModifiedTime", "Size", "VersionId"})


async def delete_object(call: Call) -> web.StreamResponse:
    """DeleteObject; deleting a missing object succeeds unless the request has a condition."""
    condition = DeleteCondition(
        call.header("if-match"), call.header("x-amz-if-match-last-modified-time"), call.header("x-amz-if-match-size")
    )
    if call.key.endswith("/"):  # a directory marker, which is never stored
        call.check(Operation.DELETE, call.key.rstrip("/") + "/x")
        condition.check(call.key, None)
    else:
        await _delete(call, call.key, condition)
    return web.Response(status=204)


async def _delete(call: Call, key: str, condition: DeleteCondition) -> None:
    bucket = call.stores.at(call.check(Operation.DELETE, key))
    async with call.stores.locks.hold(call.lock(key)):
        existing = await bucket.head(key)
        condition.check(key, existing)
        if existing is not None:
            gone = await bucket.delete(key)
            call.launch.add(Amount(-existing.size, -gone))


async def delete_objects(call: Call) -> web.StreamResponse:
    """DeleteObjects: each key is checked separately, and a refused key does not stop the others."""
    document = await read_document(call, "Delete")
    items = [child for child in document if child.tag == "Object"]
    if not 0 < len(items) <= MAX_DELETE_KEYS:
        raise S3Error("MalformedXML", f"A bulk delete must list 1 to {MAX_DELETE_KEYS} objects.")
    for child in document:
        if child.tag not in _ROOT:
            raise S3Error("NotImplemented", f"The element {child.tag} of a bulk delete is not supported.")
    quiet = (document.findtext("Quiet") or "").lower() == "true"
    results: list[Node] = []
    for item in items:
        key = item.findtext("Key") or ""
        try:
            await _delete_item(call, item)
        except S3Error as error:
            results.append(("Error", [("Key", key), ("Code", error.code), ("Message", error.message)]))
        else:
            results += [] if quiet else [("Deleted", [("Key", key)])]
    return xml(("DeleteResult", results))


async def _delete_item(call: Call, item: Element) -> None:
    fields = fields_of(item, _OBJECT)
    if fields.get("VersionId"):
        raise S3Error("NotImplemented", "Versions are not supported.")
    for name in ("ETag", "LastModifiedTime", "Size"):
        if fields.get(name) == "":
            raise S3Error("InvalidArgument", f"The condition {name} is empty.")
    condition = DeleteCondition(fields.get("ETag", ""), fields.get("LastModifiedTime", ""), fields.get("Size", ""))
    await _delete(call, fields.get("Key", ""), condition)
