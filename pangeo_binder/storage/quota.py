"""Counts a launch's bytes against its limits: reserve first, commit after, so concurrent requests cannot exceed them.

Bytes are limited by the grant; the number of files and requests by a rule that derives them from it. Runs in the
storage process. Counts are in memory, and saved in the launch table. Not for access decisions (`scope`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from ..policy.units import size_text


class OverQuota(Exception):
    """A reservation that exceeds a limit; the message is a sentence that names the limit."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one launch may hold and do at the same time."""

    objects: int
    """Objects and folders, and unfinished uploads with their parts: every one of them is an inode of the disk."""
    uploads: int
    requests: int


_OBJECTS_FLOOR, _OBJECTS_CEILING, _BYTES_PER_OBJECT = 1000, 1_000_000, 64 * 1024
_UPLOADS_FLOOR, _UPLOADS_CEILING, _OBJECTS_PER_UPLOAD = 100, 1000, 10
_REQUESTS_FLOOR, _REQUESTS_CEILING, _BYTES_PER_REQUEST = 64, 256, 16 * 1024 * 1024


def limits_of(scratch_bytes: int) -> Limits:
    """Return the limits of a launch that may store `scratch_bytes`: each grows with it, from a floor to a ceiling."""
    objects = min(_OBJECTS_CEILING, _OBJECTS_FLOOR + scratch_bytes // _BYTES_PER_OBJECT) if scratch_bytes else 0
    uploads = min(_UPLOADS_CEILING, max(_UPLOADS_FLOOR, objects // _OBJECTS_PER_UPLOAD))
    requests = min(_REQUESTS_CEILING, _REQUESTS_FLOOR + scratch_bytes // _BYTES_PER_REQUEST)
    return Limits(objects, uploads, requests)


@dataclass(slots=True)
class Usage:
    """How much one launch stores, has reserved and has read, in bytes."""

    stored: int = 0
    reserved: int = 0
    egress: int = 0


@dataclass(slots=True)
class Files:
    """How many objects, folders, uploads and parts one launch has, and has reserved."""

    stored: int = 0
    reserved: int = 0
    changes: int = 0
    """How often what the launch stores changed, and how many requests may change it now: see `measuring`."""
    writers: int = 0

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Count one request that may change what the launch stores."""
        self.writers += 1
        try:
            yield
        finally:
            self.writers -= 1


@dataclass(frozen=True, slots=True)
class Amount:
    """What a write stores, or frees."""

    size: int = 0
    files: int = 0


@dataclass(slots=True)
class Reservation:
    """A part of a launch's scratch, reserved for one write; as a context manager, it is released unless committed."""

    usage: Usage
    files: Files
    amount: Amount
    _open: bool = field(default=True)

    def commit(self, stored: Amount, replaced: int = 0) -> None:
        """Count what was `stored` instead of the reservation, and subtract the `replaced` bytes it overwrote."""
        self.close()
        add(self.usage, self.files, Amount(stored.size - replaced, stored.files))

    def close(self) -> None:
        """Release the reservation; does nothing the second time."""
        if self._open:
            self._open = False
            self.usage.reserved -= self.amount.size
            self.files.reserved -= self.amount.files

    def __enter__(self) -> Reservation:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def add(usage: Usage, files: Files, amount: Amount) -> None:
    """Add `amount`, whose numbers may be negative, to what the launch stores."""
    files.changes += 1
    usage.stored = max(0, usage.stored + amount.size)
    files.stored = max(0, files.stored + amount.files)


def reserve_scratch(usage: Usage, limit: int, size: int, replaces: int = 0) -> Reservation:
    """Reserve `size` bytes that will replace `replaces` stored ones.

    Raises OverQuota if the total would exceed `limit` bytes.
    """
    if usage.stored + usage.reserved + size - replaces > limit:
        raise OverQuota(
            f"This write needs {size_text(size)}, but {size_text(usage.stored + usage.reserved)} of this launch's "
            f"{size_text(limit)} of scratch storage are in use. Delete objects you no longer need."
        )
    usage.reserved += size
    return Reservation(usage, Files(), Amount(size))


def reserve_files(reservation: Reservation, files: Files, limit: int, count: int) -> None:
    """Extend `reservation` by `count` files. Raises OverQuota if the total would exceed `limit`."""
    if count and files.stored + files.reserved + count > limit:
        raise OverQuota(
            f"This launch has {files.stored + files.reserved} of at most {limit} objects, folders, unfinished uploads "
            "and parts. Delete some, or store fewer and larger objects."
        )
    files.reserved += count
    reservation.files, reservation.amount = files, Amount(reservation.amount.size, count)


def reserve_egress(usage: Usage, limit: int | None, size: int) -> None:
    """Count `size` bytes as read; subtract bytes that were not sent with `usage.egress -= unsent`.

    Raises OverQuota if the total would exceed `limit` bytes (None: no limit).
    """
    if limit is not None and usage.egress + size > limit:
        raise OverQuota(
            f"This request reads {size_text(size)}, but this launch may read {size_text(limit)} in total, "
            f"of which {size_text(usage.egress)} are used."
        )
    usage.egress += size
