"""The interface of a store for the S3 front: operations on keys, and the types they use.

Drivers: `directory` (plain files) and `remote` (any obstore store). A bucket knows neither launches nor S3's wire
format; its callers have checked each key with `scope.key_problem`. Reading opens one version of an object: later writes
do not change its bytes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime

from .errors import S3Error
from .spool import Spool

WINDOW_BYTES = 1024 * 1024
"""How much is read at a time; with one window read ahead this is almost as fast as sendfile."""


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """Metadata of an existing object."""

    key: str
    size: int
    etag: str
    """Without quotes."""
    modified: datetime
    content_type: str = "binary/octet-stream"
    made_folders: int = 0
    """After a write: how many folders it made."""


@dataclass(frozen=True, slots=True)
class Span:
    """A Range header: from `start` to `end` (exclusive; None: to the end), or the last `suffix` bytes."""

    start: int = 0
    end: int | None = None
    suffix: int | None = None

    def within(self, size: int) -> tuple[int, int]:
        """Return start and end (exclusive) in an object of `size` bytes. Raises S3Error if they are outside of it."""
        start, end = self.start, size if self.end is None else min(self.end, size)
        if self.suffix is not None:
            start, end = max(0, size - self.suffix), size
        if start >= end:
            raise S3Error("InvalidRange", f"The range is outside of the object's {size} bytes.")
        return start, end


@dataclass(frozen=True, slots=True)
class OpenObject:
    """One version of an object, opened for reading the bytes from `start` to `end`."""

    found: ObjectInfo
    start: int
    end: int
    chunks: AsyncIterator[bytes]
    close: Callable[[], Awaitable[None]]
    """Must be called at the end, even if `chunks` was not read."""


@dataclass(frozen=True, slots=True)
class Target:
    """What a write to a key would meet."""

    existing: ObjectInfo | None
    missing_folders: int = 0
    """How many folders the write would make."""

    @property
    def size(self) -> int:
        """The size of the object that the write would replace, in bytes."""
        return self.existing.size if self.existing else 0

    @property
    def new_files(self) -> int:
        """How many objects and folders the write would add."""
        return self.missing_folders + (self.existing is None)


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a listing, in the order of the keys' UTF-8 bytes."""

    objects: tuple[ObjectInfo, ...]
    prefixes: tuple[str, ...]
    """Common prefixes, each ending in the delimiter."""
    more_after: str = ""
    """The last key or prefix of this page if more follow; else empty."""


@dataclass(frozen=True, slots=True)
class Query:
    """A request for one page of a listing."""

    prefix: str = ""
    delimiter: bool = False
    """Whether to group keys by the next slash into common prefixes."""
    after: str = ""
    limit: int = 1000


class Bucket(ABC):
    """A flat set of objects. Its methods raise S3Error if a request cannot be served."""

    @abstractmethod
    async def head(self, key: str) -> ObjectInfo | None:
        """Return the metadata of the object at `key`; None if there is none."""

    @abstractmethod
    async def open(self, key: str, span: Span | None) -> OpenObject | None:
        """Open the object at `key`, or a span of it; None if there is none."""

    @abstractmethod
    async def write(self, key: str, spool: Spool, create: bool) -> ObjectInfo:
        """Write the spool's content to `key` atomically; with `create` only if `key` has no object."""

    async def target(self, key: str) -> Target:
        """Return what a write to `key` would meet. Raises S3Error if no object can be at `key`."""
        return Target(await self.head(key))

    async def expected_etag(self, spool: Spool) -> str:
        """Return the ETag that an object written from `spool` will have; empty if unknown before the write."""
        return ""

    @abstractmethod
    async def delete(self, key: str) -> int:
        """Delete the object at `key`, no error if there is none; return how many objects and folders are gone."""

    @abstractmethod
    async def scan(self, query: Query) -> Page:
        """Return the first objects and common prefixes after `query.after`."""

    async def measure(self, prefix: str) -> tuple[int, int]:
        """Return the total size in bytes of the objects under `prefix`, and the number of objects and folders."""
        size, files, after = 0, 0, ""
        while True:
            page = await self.scan(Query(prefix, after=after))
            size, files = size + sum(found.size for found in page.objects), files + len(page.objects)
            after = page.more_after
            if not after:
                return size, files

    async def delete_prefix(self, prefix: str) -> None:
        """Delete everything under `prefix`, which ends in a slash."""
        while (page := await self.scan(Query(prefix))).objects:
            for found in page.objects:
                await self.delete(found.key)


def exists_already(key: str) -> S3Error:
    """Return the error for a create-only write to an existing object."""
    return S3Error("PreconditionFailed", f"The object {key!r} already exists.")
