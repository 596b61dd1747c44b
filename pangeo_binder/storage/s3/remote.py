"""A bucket that is an obstore store: S3, Google Cloud Storage, memory, or any other obstore supports.

The store itself enforces create-only writes of bodies in memory; for larger bodies this module checks just before the
write. Listings rely on the store's order, which is by UTF-8 bytes on S3 and Google Cloud Storage.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError

from ..scope import key_problem
from .bucket import WINDOW_BYTES, Bucket, ObjectInfo, OpenObject, Page, Query, Span, exists_already
from .errors import S3Error
from .spool import Spool

_BATCH = 1000


class RemoteBucket(Bucket):
    """The objects of `store`."""

    def __init__(self, store: Any) -> None:
        self._store = store

    async def head(self, key: str) -> ObjectInfo | None:
        """Return the metadata of the object at `key`; None if there is none."""
        try:
            return _object_info(await obstore.head_async(self._store, key))
        except FileNotFoundError:
            return None
        except (BaseError, OSError) as error:
            raise _unavailable() from error

    async def open(self, key: str, span: Span | None) -> OpenObject | None:
        """Open the object at `key` with one request to the store."""
        try:
            result = await obstore.get_async(self._store, key, options={"range": _range(span)} if span else {})
        except FileNotFoundError:
            return None
        except (BaseError, OSError) as error:
            await self._check_span(key, span)
            raise _unavailable() from error
        start, end = result.range
        found = _object_info(result.meta, str(result.attributes.get("Content-Type", "")))

        async def close() -> None:
            """Do nothing: garbage collection of the stream ends the request."""

        return OpenObject(found, start, end, _stream(result), close)

    async def write(self, key: str, spool: Spool, create: bool) -> ObjectInfo:
        """Send the spool's content to `key`."""
        small = spool.in_memory
        attributes: Any = {"Content-Type": spool.content_type} if spool.content_type else None
        mode: Any = "create" if create and small is not None else "overwrite"
        if create and small is None and await self.head(key) is not None:
            raise exists_already(key)
        content = small if small is not None else spool.file()
        try:
            await obstore.put_async(self._store, key, content, attributes=attributes, mode=mode)
        except AlreadyExistsError:
            raise exists_already(key) from None
        except (BaseError, OSError) as error:
            raise _unavailable() from error
        found = await self.head(key)
        if found is None:
            raise _unavailable()
        return found

    async def delete(self, key: str) -> int:
        """Delete the object at `key`."""
        try:
            await obstore.delete_async(self._store, key)
        except FileNotFoundError:
            return 0
        except (BaseError, OSError) as error:
            raise _unavailable() from error
        return 1

    async def scan(self, query: Query) -> Page:
        """Return the first objects and common prefixes after `query.after`."""
        try:
            if query.delimiter:
                return _to_page(await self._scan_level(query), query.limit)
            return _to_page(await self._scan_deep(query), query.limit)
        except FileNotFoundError:
            return Page((), ())
        except (BaseError, OSError) as error:
            raise _unavailable() from error

    async def _scan_level(self, query: Query) -> list[ObjectInfo | str]:
        folder = query.prefix.rpartition("/")[0]
        level = await obstore.list_with_delimiter_async(self._store, folder or None)
        items: list[ObjectInfo | str] = [_object_info(meta) for meta in level["objects"]]
        items += [f"{prefix.rstrip('/')}/" for prefix in level["common_prefixes"]]
        return sorted((item for item in items if _wanted(_key(item), query)), key=lambda item: _key(item).encode())

    async def _scan_deep(self, query: Query) -> list[ObjectInfo | str]:
        # an obstore prefix ends at a slash, an S3 prefix anywhere: list the folder, starting just before the prefix
        folder = query.prefix.rpartition("/")[0]
        start = max(query.after, query.prefix[:-1])
        offset = None if key_problem(start) else start  # obstore accepts only valid keys; None lists from the start
        items: list[ObjectInfo | str] = []
        async for batch in obstore.list(self._store, folder or None, offset=offset, chunk_size=_BATCH):
            items += [_object_info(meta) for meta in batch if _wanted(meta["path"], query)]
            past = batch and batch[-1]["path"].encode() > query.prefix.encode()
            if len(items) > query.limit or (past and not batch[-1]["path"].startswith(query.prefix)):
                break
        return items

    async def _check_span(self, key: str, span: Span | None) -> None:
        found = await self.head(key) if span else None
        if span and found:
            span.within(found.size)


def _wanted(key: str, query: Query) -> bool:
    return key.startswith(query.prefix) and key.encode() > query.after.encode()


def _key(item: ObjectInfo | str) -> str:
    return item if isinstance(item, str) else item.key


def _to_page(items: list[ObjectInfo | str], limit: int) -> Page:
    shown = items[:limit]
    more = _key(shown[-1]) if shown and len(items) > limit else ""
    objects = tuple(item for item in shown if isinstance(item, ObjectInfo))
    return Page(objects, tuple(item for item in shown if isinstance(item, str)), more)


def _object_info(meta: Any, content_type: str = "") -> ObjectInfo:
    etag = (meta["e_tag"] or f"{meta['size']:x}-{meta['last_modified'].timestamp():.0f}").strip('"')
    return ObjectInfo(meta["path"], meta["size"], etag, meta["last_modified"], content_type or "binary/octet-stream")


def _range(span: Span) -> Any:
    if span.suffix is not None:
        return {"suffix": span.suffix}
    return {"offset": span.start} if span.end is None else (span.start, span.end)


async def _stream(result: Any) -> AsyncIterator[bytes]:
    async for piece in result.stream(min_chunk_size=WINDOW_BYTES):
        yield bytes(piece)


def _unavailable() -> S3Error:
    return S3Error("ServiceUnavailable", "The store of this bucket failed or gave an invalid answer; try again.")
