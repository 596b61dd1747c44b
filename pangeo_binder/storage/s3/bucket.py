"""What the S3 front needs of a store: a few operations on keys, and the nouns they speak in.

Drivers: `directory` (plain files) and `remote` (any obstore store). A bucket knows neither launches nor S3's wire form;
keys that reach it have passed `scope.key_problem`. Reading opens one version of an object: nothing written meanwhile is
mixed in.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime

from .errors import S3Error
from .spool import Spool

WINDOW_BYTES = 1024 * 1024
"""How much is read at a time; with one window read ahead this is within reach of sendfile."""


@dataclass(frozen=True, slots=True)
class Found:
    """An object that is there."""

    key: str
    size: int
    etag: str
    """Without quotes."""
    modified: datetime
    content_type: str = "binary/octet-stream"


@dataclass(frozen=True, slots=True)
class Span:
    """A Range header: from `start` to `end` (exclusive; None: to the end), or the last `suffix` bytes."""

    start: int = 0
    end: int | None = None
    suffix: int | None = None

    def within(self, size: int) -> tuple[int, int]:
        """Return start and end (exclusive) in an object of `size` bytes. Raises S3Error where they lie outside."""
        start, end = self.start, size if self.end is None else min(self.end, size)
        if self.suffix is not None:
            start, end = max(0, size - self.suffix), size
        if start >= end:
            raise S3Error("InvalidRange", f"The range lies outside of the object's {size} bytes.")
        return start, end


@dataclass(frozen=True, slots=True)
class Opened:
    """One version of an object, opened for reading the bytes from `start` to `end`."""

    found: Found
    start: int
    end: int
    chunks: AsyncIterator[bytes]
    close: Callable[[], Awaitable[None]]
    """Must be called at the end, whether `chunks` was read or not."""


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a listing, in the order of the keys' UTF-8 bytes."""

    objects: tuple[Found, ...]
    prefixes: tuple[str, ...]
    """Common prefixes, each ending in the delimiter."""
    more_after: str = ""
    """The last key or prefix of this page where there are more; else empty."""


@dataclass(frozen=True, slots=True)
class Query:
    """Which part of which listing is wanted."""

    prefix: str = ""
    delimiter: bool = False
    """Whether to roll up what lies behind the next slash."""
    after: str = ""
    limit: int = 1000


class Bucket(ABC):
    """A flat set of objects. Raises S3Error where a request cannot be served."""

    @abstractmethod
    async def head(self, key: str) -> Found | None:
        """Return what is at `key`, or None."""

    @abstractmethod
    async def open(self, key: str, span: Span | None) -> Opened | None:
        """Open the object at `key`, or a span of it; None where there is none."""

    @abstractmethod
    async def write(self, key: str, spool: Spool, create: bool) -> Found:
        """Put the spool's content at `key`, wholly or not at all; with `create` only where nothing is there."""

    @abstractmethod
    async def delete(self, key: str) -> None:
        """Remove what is at `key`; no error where nothing is."""

    @abstractmethod
    async def scan(self, query: Query) -> Page:
        """Return the first objects and common prefixes after `query.after`."""

    async def drop(self, prefix: str) -> None:
        """Remove everything under `prefix`, which ends in a slash."""
        while (page := await self.scan(Query(prefix))).objects:
            for found in page.objects:
                await self.delete(found.key)


def exists_already(key: str) -> S3Error:
    """Return the error for a conditional write that lost."""
    return S3Error("PreconditionFailed", f"There is an object {key!r} already.")


async def measure(bucket: Bucket, prefix: str) -> int:
    """Return how many bytes the objects under `prefix` hold."""
    total, after = 0, ""
    while True:
        page = await bucket.scan(Query(prefix, after=after))
        total += sum(found.size for found in page.objects)
        after = page.more_after
        if not after:
            return total
