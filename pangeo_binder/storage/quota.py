"""Counts a launch's bytes against its limits: reserve first, commit after, so concurrent requests cannot exceed them.

Runs in the storage process. Counts are in memory; stored bytes are measured from the store at every start. Not for
access decisions (`scope`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ..policy.units import size_text


class OverQuota(Exception):
    """A reservation that exceeds a limit; the message is a sentence that names the limit."""


@dataclass(slots=True)
class Usage:
    """How much one launch stores, has reserved and has read, in bytes."""

    stored: int = 0
    reserved: int = 0
    egress: int = 0


@dataclass(slots=True)
class Reservation:
    """Reserved scratch bytes for one write; as a context manager, it releases them unless committed."""

    usage: Usage
    size: int
    _open: bool = field(default=True)

    def commit(self, stored: int, replaced: int = 0) -> None:
        """Count `stored` bytes instead of the reservation, and subtract the `replaced` bytes they overwrote."""
        self.close()
        self.usage.stored = max(0, self.usage.stored + stored - replaced)

    def close(self) -> None:
        """Release the reservation; does nothing the second time."""
        if self._open:
            self._open = False
            self.usage.reserved -= self.size

    def __enter__(self) -> Reservation:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


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
    return Reservation(usage, size)


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
