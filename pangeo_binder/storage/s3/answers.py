"""Writes and reads S3's XML documents, and writes its object headers.

Format: https://docs.aws.amazon.com/AmazonS3/latest/API/. defusedxml parses the documents; the caller has limited their
size. Not for deciding what to answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import format_datetime
from xml.etree.ElementTree import Element, ParseError
from xml.sax.saxutils import escape

from aiohttp import web
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from .bucket import ObjectInfo
from .errors import S3Error

NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
SERVER = "pangeo-binder"
MAX_XML_BYTES = 1024 * 1024

Node = tuple[str, str | Sequence["Node"]]
"""An element as a pair: its name, and its text or its children."""


def element(node: Node, attributes: str = "") -> str:
    """Return `node` as XML text."""
    name, content = node
    inner = escape(content) if isinstance(content, str) else "".join(element(child) for child in content)
    return f"<{name}{attributes}>{inner}</{name}>"


def xml(node: Node, status: int = 200) -> web.Response:
    """Return an answer with `node` as its document."""
    text = '<?xml version="1.0" encoding="UTF-8"?>\n' + element(node, f' xmlns="{NAMESPACE}"')
    return web.Response(body=text.encode(), status=status, content_type="application/xml")


def error_answer(error: S3Error, request_id: str) -> web.Response:
    """Return `error` as an answer; like S3's, its document has no namespace."""
    node: Node = ("Error", [("Code", error.code), ("Message", error.message), ("RequestId", request_id)])
    text = '<?xml version="1.0" encoding="UTF-8"?>\n' + element(node)
    return web.Response(body=text.encode(), status=error.status, content_type="application/xml")


def read_xml(text: bytes, root: str) -> Element:
    """Return the document in `text`, whose root element must be `root`. Raises S3Error."""
    try:
        document = fromstring(text)
    except (ParseError, DefusedXmlException, ValueError):
        raise S3Error("MalformedXML", "The body is not a valid XML document.") from None
    if local(document) != root:
        raise S3Error("MalformedXML", f"The body's root element must be {root}.")
    return document


def local(node: Element) -> str:
    """Return the element's name without its namespace."""
    return node.tag.rpartition("}")[2]


def child_text(node: Element, name: str) -> str:
    """Return the text of the first child called `name`; empty if there is none."""
    return next((child.text or "" for child in node if local(child) == name), "")


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
