"""Writes S3's XML documents and its object headers.

Format: https://docs.aws.amazon.com/AmazonS3/latest/API/. Not for reading documents (`documents`) nor for deciding what
to answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import format_datetime
from xml.sax.saxutils import escape

from aiohttp import web

from .bucket import ObjectInfo
from .errors import S3Error

DECLARATION = '<?xml version="1.0" encoding="UTF-8"?>\n'
NAMESPACE_ATTRIBUTE = ' xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
SERVER = "pangeo-binder"

Node = tuple[str, str | Sequence["Node"]]
"""An element as a pair: its name, and its text or its children."""


def element(node: Node, attributes: str = "") -> str:
    """Return `node` as XML text."""
    name, content = node
    inner = escape(content) if isinstance(content, str) else "".join(element(child) for child in content)
    return f"<{name}{attributes}>{inner}</{name}>"


def xml(node: Node, status: int = 200) -> web.Response:
    """Return an answer with `node` as its document."""
    text = DECLARATION + element(node, NAMESPACE_ATTRIBUTE)
    return web.Response(body=text.encode(), status=status, content_type="application/xml")


def error_node(error: S3Error, request_id: str) -> Node:
    """Return `error` as a document."""
    return ("Error", [("Code", error.code), ("Message", error.message), ("RequestId", request_id)])


def error_answer(error: S3Error, request_id: str) -> web.Response:
    """Return `error` as an answer; like S3's, its document has no namespace."""
    text = DECLARATION + element(error_node(error, request_id))
    return web.Response(body=text.encode(), status=error.status, content_type="application/xml")


def iso(when: datetime) -> str:
    """Return a time in the format of S3's XML."""
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{when.microsecond // 1000:03d}Z"


def object_headers(found: ObjectInfo) -> dict[str, str]:
    """Return the headers that describe an object."""
    return {
        "Server": SERVER,
        "ETag": f'"{found.etag}"',
        "Last-Modified": format_datetime(found.modified.astimezone(UTC), usegmt=True),
        "Accept-Ranges": "bytes",
        "Content-Type": found.content_type,
    }
