"""One verified request to the S3 front, and the state all operations share.

A Call exists only for a live launch and a valid signature. Operations get buckets from it and never build locations
themselves. Not for HTTP (`front`) nor for single operations (`objects`, `multipart`, `listing`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from aiohttp import web
from obstore.store import from_url

from ...model import CatalogueEntry
from ..launches import StoredLaunch
from ..quota import OverQuota, Reservation, reserve_egress, reserve_files, reserve_scratch
from ..scope import Location, Operation, key_problem
from .body import Body
from .bucket import Bucket
from .directory import DirectoryBucket
from .errors import S3Error
from .remote import RemoteBucket
from .uploads import Uploads


class Locks:
    """One lock per name, kept while a task holds or awaits it."""

    def __init__(self) -> None:
        self._locks: dict[str, tuple[asyncio.Lock, int]] = {}

    @asynccontextmanager
    async def hold(self, name: str) -> AsyncIterator[None]:
        """Hold the lock called `name`."""
        lock, users = self._locks.get(name, (asyncio.Lock(), 0))
        self._locks[name] = (lock, users + 1)
        try:
            async with lock:
                yield
        finally:
            users = self._locks[name][1] - 1
            if users:
                self._locks[name] = (lock, users)
            else:
                del self._locks[name]


class Catalogue:
    """The read-only buckets behind catalogue entries, each opened once."""

    def __init__(self) -> None:
        self._open: dict[tuple[str, str, bool], Bucket] = {}

    def bucket(self, entry: CatalogueEntry) -> Bucket:
        """Return the bucket of `entry`."""
        url = urlsplit(entry.url)
        source = entry.url if url.scheme == "file" else f"{url.scheme}://{url.netloc}"
        name = (source, entry.region, entry.anonymous)
        if name not in self._open:
            self._open[name] = _opened(source, entry)
        return self._open[name]


def _opened(source: str, entry: CatalogueEntry) -> Bucket:
    if source.startswith("file:"):
        return DirectoryBucket(Path(unquote(urlsplit(source).path)))
    if source.startswith("s3:") and entry.region:
        return RemoteBucket(from_url(source, region=entry.region, skip_signature=entry.anonymous))
    return RemoteBucket(from_url(source, skip_signature=entry.anonymous))


@dataclass(frozen=True, slots=True)
class Stores:
    """The stores of this process: scratch, catalogue, and the staging and upload directories."""

    scratch: Bucket
    staging: Path
    uploads: Uploads
    keepalive_seconds: float = 5
    """How long an operation may take before its answer begins."""
    catalogue: Catalogue = field(default_factory=Catalogue)
    locks: Locks = field(default_factory=Locks)

    def at(self, location: Location) -> Bucket:
        """Return the bucket of `location`."""
        return self.scratch if location.entry is None else self.catalogue.bucket(location.entry)


@dataclass(frozen=True, slots=True)
class Call:
    """One verified request of a live launch."""

    request: web.BaseRequest
    launch: StoredLaunch
    stores: Stores
    bucket_name: str
    key: str
    query: dict[str, str]
    body: Body
    request_id: str = ""
    now: Callable[[], float] = time.time

    def header(self, name: str) -> str:
        """Return the header `name` (in lower case); empty if absent."""
        return self.body.request.header(name)

    def check(self, operation: Operation, key: str | None = None, bucket: str | None = None) -> Location:
        """Return the location of `key` (default: this call's). Raises S3Error unless the launch may do `operation`."""
        name, wanted = self.bucket_name if bucket is None else bucket, self.key if key is None else key
        location, decision = self.launch.scope.location(name, wanted), self.launch.scope.decide(operation, name, wanted)
        if decision.allowed and location is not None:
            return location
        known = name in self.launch.scope.buckets
        if known and operation is not Operation.LIST and key_problem(wanted):
            raise S3Error("InvalidArgument", key_problem(wanted))
        raise S3Error("AccessDenied", decision.reason)

    def bucket(self, operation: Operation) -> Bucket:
        """Return the bucket of this call's key, for `operation`. Raises S3Error."""
        return self.stores.at(self.check(operation))

    def reserve(self, size: int, replaces: int = 0, files: int = 0) -> Reservation:
        """Reserve `size` bytes and `files` files of this launch's scratch. Raises S3Error over its limits."""
        launch = self.launch
        try:
            reservation = reserve_scratch(launch.usage, launch.scope.scratch_bytes, size, replaces)
            try:
                reserve_files(reservation, launch.files, launch.limits.objects, files)
            except OverQuota:
                reservation.close()
                raise
        except OverQuota as error:
            raise S3Error("QuotaExceeded", error.args[0]) from None
        return reservation

    def reserve_egress(self, size: int) -> None:
        """Count `size` bytes as read. Raises S3Error over the launch's limit."""
        try:
            reserve_egress(self.launch.usage, self.launch.scope.egress_bytes, size)
        except OverQuota as error:
            raise S3Error("QuotaExceeded", error.args[0]) from None

    def lock(self, key: str | None = None) -> str:
        """Return the name of the lock of this call's key, or of `key` in its bucket."""
        return f"{self.bucket_name}/{self.key if key is None else key}"
