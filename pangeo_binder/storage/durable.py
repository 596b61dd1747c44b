"""How strictly a write is on the disk before it is acknowledged, and the calls that bring it there.

Without them an acknowledged object may be lost if the machine loses power; a killed process loses nothing either way.
Blocking; used by the directory bucket, the uploads and the launch table.
"""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path


class Durability(StrEnum):
    """What is flushed to the disk before a write is acknowledged."""

    NONE = "none"
    """Nothing: fastest; a power failure may lose the last seconds of writes."""
    FILE = "file"
    """The content, but not the folder's entry for it."""
    FULL = "full"
    """The content, and the folders that name it."""


def sync_file(path: Path, durability: Durability) -> None:
    """Flush the content of the file `path`, unless `durability` is NONE."""
    if durability is not Durability.NONE:
        _sync(path, os.O_RDONLY)


def sync_folder(path: Path, durability: Durability) -> None:
    """Flush the entries of the folder `path` if `durability` is FULL."""
    if durability is Durability.FULL:
        _sync(path, os.O_RDONLY | os.O_DIRECTORY)


def sync_open_folder(descriptor: int, durability: Durability) -> None:
    """Flush the entries of an open folder if `durability` is FULL."""
    if durability is Durability.FULL:
        os.fsync(descriptor)


def write_file(path: Path, text: str, durability: Durability) -> None:
    """Write a small private file atomically: readers see the old content or the new one. Raises OSError."""
    fresh = path.with_name(f"{path.name}.new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        if durability is not Durability.NONE:
            os.fsync(file.fileno())
    fresh.replace(path)
    sync_folder(path.parent, durability)


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
