"""The conditions of requests: on the object that is read, written or deleted, and on the source of a copy.

Format: https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-requests.html. `routes` lists which operation
takes which condition; all others are refused there. Decisions only; the callers hold the key's lock.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from .bucket import ObjectInfo, exists_already
from .errors import S3Error, no_such_key

SOURCE = "x-amz-copy-source-"
Header = Callable[[str], str]
"""Returns a header of the request by its name; empty if absent."""


@dataclass(frozen=True, slots=True)
class DeleteCondition:
    """What a delete requires of the object; empty fields require nothing."""

    etag: str = ""
    modified: str = ""
    size: str = ""

    def check(self, key: str, existing: ObjectInfo | None) -> None:
        """Raise S3Error unless `existing` (None: there is no object) is what the delete requires."""
        modified = _required_date(self.modified) if self.modified else None
        if self.size and not (self.size.isascii() and self.size.isdecimal() and len(self.size) < 19):
            raise S3Error("InvalidArgument", "The required size must be a number of bytes.")
        if not (self.etag or self.modified or self.size):
            return
        if existing is None:
            raise no_such_key(key)
        if self.etag and not _matches(self.etag, existing):
            raise S3Error("PreconditionFailed", "The object has another ETag.")
        if self.size and int(self.size) != existing.size:
            raise S3Error("PreconditionFailed", "The object has another size.")
        if modified and modified != existing.modified.replace(microsecond=0):
            raise S3Error("PreconditionFailed", "The object was modified at another time.")


def is_not_modified(header: Header, found: ObjectInfo) -> bool:
    """Return whether a reader already has this version. Raises S3Error if it requires another one."""
    match, none_match = header("if-match"), header("if-none-match")
    if match and not _matches(match, found):
        raise S3Error("PreconditionFailed", "The object has another ETag.")
    unmodified = _date(header("if-unmodified-since"))
    if not match and unmodified and found.modified.replace(microsecond=0) > unmodified:
        raise S3Error("PreconditionFailed", "The object was modified after the given date.")
    if none_match:
        return _matches(none_match, found)
    modified = _date(header("if-modified-since"))
    return modified is not None and found.modified.replace(microsecond=0) <= modified


def check_source(header: Header, found: ObjectInfo) -> None:
    """Raise S3Error unless the source of a copy is the version that the request requires."""
    match, none_match = header(f"{SOURCE}if-match"), header(f"{SOURCE}if-none-match")
    since, before = header(f"{SOURCE}if-modified-since"), header(f"{SOURCE}if-unmodified-since")
    modified = found.modified.replace(microsecond=0)
    if match and not _matches(match, found):
        raise S3Error("PreconditionFailed", "The copy source has another ETag: it was written since.")
    if before and modified > _required_date(before) and not match:
        raise S3Error("PreconditionFailed", "The copy source was modified after the given date.")
    if none_match and _matches(none_match, found):
        raise S3Error("PreconditionFailed", "The copy source has the ETag that the request excludes.")
    if since and modified <= _required_date(since) and not none_match:
        raise S3Error("PreconditionFailed", "The copy source was not modified after the given date.")


def check_write(header: Header, key: str, existing: ObjectInfo | None) -> None:
    """Raise S3Error if a write's conditions do not hold for the existing object (None: there is none)."""
    none_match, match = header("if-none-match"), header("if-match")
    if none_match and none_match != "*":
        raise S3Error("NotImplemented", "On writes, If-None-Match must be '*'.")
    if none_match and existing is not None:
        raise exists_already(key)
    if match and existing is None:
        raise no_such_key(key)
    if match and existing is not None and not _matches(match, existing):
        raise S3Error("PreconditionFailed", "The object has another ETag: it was written since.")


def _matches(tags: str, found: ObjectInfo) -> bool:
    named = [tag.strip().removeprefix("W/").strip('"') for tag in tags.split(",")]
    return tags.strip() == "*" or found.etag in named


def _date(text: str) -> datetime | None:
    """Return an HTTP date; None if absent or malformed, because HTTP says to ignore a malformed one on reads."""
    try:
        when = parsedate_to_datetime(text) if text else None
    except ValueError:
        return None
    return when.replace(tzinfo=UTC) if when is not None and when.tzinfo is None else when


def _required_date(text: str) -> datetime:
    """Return a date of HTTP or ISO 8601, to the second. Raises S3Error: ignoring it would destroy data."""
    when = _date(text)
    if when is None:
        try:
            when = datetime.fromisoformat(text)
        except ValueError:
            raise S3Error("InvalidArgument", "A date of this request is not valid.") from None
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).replace(microsecond=0)
