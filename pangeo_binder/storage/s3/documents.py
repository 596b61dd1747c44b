"""Reads the XML documents that clients send: bounded in bytes, elements and depth, and parsed outside the event loop.

defusedxml refuses entities and external references. Not for writing documents (`answers`) nor for their meaning.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from xml.etree.ElementTree import Element, ParseError, TreeBuilder

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser

from .body import receive
from .call import Call
from .errors import S3Error
from .filework import in_file_thread
from .objects import continue_body
from .spool import Spool

MAX_BYTES = 1024 * 1024
"""Of every document except the largest one."""
MAX_PARTS_BYTES = 4 * 1024 * 1024
"""Of the list of 10,000 parts, each with its number, ETag and SHA-256."""
_ELEMENT_BYTES = 12
"""The size of the smallest useful element; limits how many elements, which take far more memory, a document has."""
_MAX_DEPTH = 4
_FEED_BYTES = 32 * 1024


class _TooMuch(Exception):
    """The document has more elements, or deeper ones, than any valid one."""


class _Bounded(TreeBuilder):
    """Builder of a tree with a limited number of elements, whose names have no namespace."""

    def __init__(self, elements: int) -> None:
        super().__init__()
        self._left, self._depth = elements, 0

    def start(self, tag: Any, attrs: Any, /) -> Element:
        """Add an element. Raises _TooMuch."""
        self._left, self._depth = self._left - 1, self._depth + 1
        if self._left < 0 or self._depth > _MAX_DEPTH:
            raise _TooMuch
        return super().start(str(tag).rpartition("}")[2], {})

    def end(self, tag: Any, /) -> Element:
        """End an element."""
        self._depth -= 1
        return super().end(str(tag).rpartition("}")[2])


async def read_document(call: Call, root: str, limit: int = MAX_BYTES, has_checksums: bool = True) -> Element:
    """Return the call's document, verified, with the root element `root`. Raises S3Error.

    `has_checksums` says whether checksums in the headers are of this document.
    """
    call.body.size(limit)
    with Spool(call.stores.staging) as spool:
        await continue_body(call)
        await receive(replace(call.body, has_checksums=has_checksums), spool, limit)
        return await in_file_thread(_parse, spool, root, limit)


def _parse(spool: Spool, root: str, limit: int) -> Element:
    parser = DefusedXMLParser(target=_Bounded(limit // _ELEMENT_BYTES))
    try:
        for piece in spool.pieces():
            for start in range(0, len(piece), _FEED_BYTES):
                parser.feed(piece[start : start + _FEED_BYTES])
        document: Element = parser.close()
    except (ParseError, DefusedXmlException, ValueError, LookupError, _TooMuch):
        raise S3Error("MalformedXML", "The body is not a valid XML document of this operation.") from None
    if document.tag != root:
        raise S3Error("MalformedXML", f"The body's root element must be {root}.")
    return document


def fields_of(element: Element, known: frozenset[str]) -> dict[str, str]:
    """Return the texts of the element's children. Raises S3Error for an unknown child or one given twice."""
    fields: dict[str, str] = {}
    for child in element:
        if child.tag not in known:
            raise S3Error("NotImplemented", f"The element {child.tag} is not supported here.")
        if child.tag in fields:
            raise S3Error("MalformedXML", f"The element {child.tag} is given twice.")
        fields[child.tag] = (child.text or "").strip() if child.tag != "Key" else child.text or ""
    return fields
