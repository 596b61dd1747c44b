"""Which operations a launch may do on which object: its own scratch, and read only its grant's catalogue entries.

Makes decisions only, each with its reason. Pure; used by the issuers and the S3 front. A key is compared literally,
never as a pattern. Not for quotas (`quota`) nor for authentication (`s3.sigv4`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import urlsplit

from .. import names
from ..model import CatalogueEntry, StorageGrant

SCRATCH_BUCKET = "scratch"
MAX_KEY_BYTES = 1024
"""https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html"""
MAX_SEGMENT_BYTES = 255
"""The file system's limit for one name (NAME_MAX)."""
MAX_SEGMENTS = 64
_FORBIDDEN_CHARACTERS = "\x7f\ufffe\uffff"
"""Forbidden in keys, as well as control characters below the space: characters XML 1.0 cannot carry, and DEL."""
_SCHEMES = ("s3", "gs", "file")


class Operation(StrEnum):
    """What a request does with a key, or with the keys under a prefix."""

    READ = "read"
    EXISTS = "exists"
    LIST = "list"
    WRITE = "write"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether an operation is allowed, and the reason as a sentence."""

    allowed: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Location:
    """The keys of one bucket that begin with one prefix; the prefix ends in a slash or is empty."""

    bucket: str
    prefix: str
    entry: CatalogueEntry | None = None
    """The catalogue entry of this location; None for scratch."""

    @property
    def bare(self) -> str:
        """The prefix without its slash, which clients request to check whether it exists."""
        return self.prefix.rstrip("/")

    def contains(self, key: str) -> bool:
        """Return whether `key` is under the prefix."""
        return key.startswith(self.prefix)


@dataclass(frozen=True, slots=True)
class Scope:
    """Everything one launch may access; derived from its grant, never from the content of a request."""

    launch_id: str
    scratch: Location
    catalogue: tuple[Location, ...]
    scratch_bytes: int
    egress_bytes: int | None

    @property
    def buckets(self) -> tuple[str, ...]:
        """The names of all buckets in scope, sorted."""
        return tuple(sorted({self.scratch.bucket, *(location.bucket for location in self.catalogue)}))

    def location(self, bucket: str, key: str) -> Location | None:
        """Return the location that contains `key`, or whose bare prefix is `key`; None if outside this scope."""
        for location in (self.scratch, *self.catalogue):
            if location.bucket == bucket and (location.contains(key) or (location.prefix and key == location.bare)):
                return location
        return None

    def decide(self, operation: Operation, bucket: str, key: str) -> Decision:
        """Decide whether `operation` on `key` (for LIST: on the keys with this prefix) is allowed."""
        if bucket not in self.buckets:
            return Decision(False, f"This launch has no access to the bucket {bucket!r}.")
        problem = key_problem(key) if operation is not Operation.LIST else prefix_problem(key)
        if problem:
            return Decision(False, problem)
        location = self.location(bucket, key)
        if location is None:
            return Decision(False, self._outside(bucket))
        if location.entry is not None:
            if operation in (Operation.WRITE, Operation.DELETE):
                return Decision(False, f"The catalogue entry {location.entry.name!r} is read only.")
            return Decision(True, f"catalogue entry {location.entry.name}")
        if not location.contains(key) and operation not in (Operation.LIST, Operation.EXISTS):
            return Decision(False, self._outside(bucket))
        return Decision(True, "this launch's scratch")

    def is_visible(self, bucket: str, key: str) -> bool:
        """Return whether a listing may show `key` (or the common prefix `key`)."""
        return any(location.bucket == bucket and location.contains(key) for location in (self.scratch, *self.catalogue))

    def _outside(self, bucket: str) -> str:
        urls = [f"s3://{p.bucket}/{p.prefix}" for p in (self.scratch, *self.catalogue) if p.bucket == bucket]
        return f"In the bucket {bucket!r} this launch may only use {' and '.join(urls)}."


def key_problem(key: str) -> str:
    """Return why `key` is not a valid object key here, as a sentence; empty if it is valid."""
    if not key:
        return "The key is empty."
    return prefix_problem(key) or ("The key ends in a slash." if key.endswith("/") else "")


def prefix_problem(prefix: str) -> str:
    """Return why no valid key begins with `prefix`, as a sentence; empty if one could."""
    if any(ord(char) < 32 or char in _FORBIDDEN_CHARACTERS for char in prefix):
        return "The key contains a control character."
    try:
        encoded = prefix.encode()
    except UnicodeEncodeError:
        return "The key is not valid UTF-8."
    if len(encoded) > MAX_KEY_BYTES:
        return f"The key is longer than {MAX_KEY_BYTES} bytes."
    *parents, last = prefix.split("/")
    if len(parents) >= MAX_SEGMENTS:
        return f"The key has more than {MAX_SEGMENTS} parts."
    if any(part in ("", ".", "..") for part in parents) or last in (".", ".."):
        return "The key contains an empty part, '.' or '..'."
    if any(len(part.encode()) > MAX_SEGMENT_BYTES for part in (*parents, last)):
        return f"A part of the key is longer than {MAX_SEGMENT_BYTES} bytes."
    return ""


def location_of(entry: CatalogueEntry) -> Location:
    """Return the location of `entry`: in the bucket of its url, or for a local directory in one named after the entry.

    Raises ValueError with a sentence if its url cannot be served.
    """
    url = urlsplit(entry.url)
    if url.scheme not in _SCHEMES or url.query or url.fragment or "@" in url.netloc:
        raise ValueError(f"The catalogue entry {entry.name!r} needs a url beginning with s3://, gs:// or file://.")
    bucket, path = (entry.name, "") if url.scheme == "file" else (url.netloc, url.path.strip("/"))
    if not bucket or "/" in bucket or bucket == SCRATCH_BUCKET or bucket in (".", ".."):
        raise ValueError(f"The catalogue entry {entry.name!r} cannot be served as the bucket {bucket!r}.")
    if path and key_problem(path):
        raise ValueError(f"The catalogue entry {entry.name!r} has an invalid path. {key_problem(path)}")
    return Location(bucket, f"{path}/" if path else "", entry)


def scope_of(launch_id: str, grant: StorageGrant) -> Scope:
    """Return the scope of the launch `launch_id` with `grant`.

    Raises ValueError with a sentence if an entry of the grant cannot be served, or if `launch_id` is not a launch id,
    whose fixed length keeps prefixes apart.
    """
    if not names.is_launch_id(launch_id):
        raise ValueError("This is not a launch id.")
    locations = tuple(location_of(entry) for entry in grant.read)
    sources: dict[str, tuple[str, str, bool]] = {}
    for location in locations:
        entry = location.entry
        assert entry is not None
        scheme = urlsplit(entry.url).scheme
        source = (entry.url if scheme == "file" else scheme, entry.region, entry.anonymous)
        if sources.setdefault(location.bucket, source) != source:
            raise ValueError(f"Two catalogue entries disagree about the location of the bucket {location.bucket!r}.")
    scratch = Location(SCRATCH_BUCKET, f"{launch_id}/")
    return Scope(launch_id, scratch, locations, grant.scratch_bytes, grant.egress_bytes)
