"""Counts a launch's bytes against its limits: reserve first, commit after, so that no two requests share one remainder.

In the storage process; counts live in memory, and stored bytes are measured anew from the store at every start. Not
for deciding access (`scope`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ..policy.units import size_text


class OverQuota(Exception):
    """A reservation went over a limit; the message is a sentence naming it."""


@dataclass(slots=True)
class Usage:
    """What one launch holds and has read, in bytes."""

    stored: int = 0
    reserved: int = 0
    egress: int = 0


@dataclass(slots=True)
class Reservation:
    """Room on scratch for one write; used as a context manager, it gives back what was not committed."""

    usage: Usage
    size: int
    _open: bool = field(default=True)

    def commit(self, stored: int, replaced: int = 0) -> None:
        """Turn the reservation into `stored` bytes that took the place of `replaced` bytes."""
        self.close()
        self.usage.stored = max(0, self.usage.stored + stored - replaced)

    def close(self) -> None:
        """Give the reservation back; nothing happens the second time."""
        if self._open:
            self._open = False
            self.usage.reserved -= self.size

    def __enter__(self) -> Reservation:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def reserve_scratch(usage: Usage, limit: int, size: int, replaces: int = 0) -> Reservation:
    """Return room for `size` bytes that will take the place of `replaces` stored ones.

    Raises OverQuota where that would not fit in `limit` bytes.
    """
    if usage.stored + usage.reserved + size - replaces > limit:
        raise OverQuota(
            f"This needs {size_text(size)}, but of this launch's {size_text(limit)} of scratch storage "
            f"{size_text(usage.stored + usage.reserved)} are in use. Delete what you no longer need."
        )
    usage.reserved += size
    return Reservation(usage, size)


def reserve_egress(usage: Usage, limit: int | None, size: int) -> None:
    """Count `size` bytes as read; give back with `usage.egress -= unsent` what was not sent after all.

    Raises OverQuota where that would go over `limit` bytes (None: no limit).
    """
    if limit is not None and usage.egress + size > limit:
        raise OverQuota(
            f"This would read {size_text(size)}, but this launch may read {size_text(limit)} in all, "
            f"of which {size_text(usage.egress)} are used."
        )
    usage.egress += size
