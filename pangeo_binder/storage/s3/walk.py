"""Walks through the folders of a directory bucket: listings in key order, and measuring.

A page of a listing starts where the last one ended: the sorted names of a large folder are kept until it changes, so
that a listing sorts a folder once and not for every page. Symbolic links are never followed. Blocking; runs in threads.
"""

from __future__ import annotations

import os
import stat
import threading
import time
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from .bucket import ObjectInfo, Query

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
ABSENT_FOLDER = (FileNotFoundError, NotADirectoryError)
_SMALL_FOLDER = 500
"""Folders with fewer entries are cheaper to read again than to keep."""
_MAX_NAMES = 1_000_000
"""How many names are kept in total, about 100 MB; those used longest ago are dropped first."""
_QUIET_NS = 100_000_000
"""A folder changed more recently is not kept: a second change could have the same time stamp."""


@dataclass(frozen=True, slots=True)
class _Kept:
    changed_ns: int
    names: list[bytes]


class FolderNames:
    """The sorted names of folders; those of folders end in a slash. Used by several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[int, int], _Kept] = OrderedDict()
        self._count = 0

    def of(self, descriptor: int) -> list[bytes]:
        """Return the names in the open folder, in the order of their keys."""
        status = os.fstat(descriptor)
        folder = (status.st_dev, status.st_ino)
        with self._lock:
            kept = self._kept.get(folder)
            if kept is not None and kept.changed_ns == status.st_mtime_ns:
                self._kept.move_to_end(folder)
                return kept.names
        quiet = time.time_ns() - status.st_mtime_ns > _QUIET_NS
        with os.scandir(descriptor) as entries:
            names = sorted(
                os.fsencode(entry.name) + (b"/" if entry.is_dir(follow_symlinks=False) else b"") for entry in entries
            )
        if quiet and len(names) >= _SMALL_FOLDER:
            self._keep(folder, _Kept(status.st_mtime_ns, names))
        return names

    def _keep(self, folder: tuple[int, int], kept: _Kept) -> None:
        with self._lock:
            old = self._kept.pop(folder, None)
            self._count += len(kept.names) - (len(old.names) if old else 0)
            self._kept[folder] = kept
            while self._count > _MAX_NAMES:
                self._count -= len(self._kept.popitem(last=False)[1].names)


@dataclass(frozen=True, slots=True)
class Walk:
    """One walk for one page: its query, and the names that earlier walks read."""

    query: Query
    folders: FolderNames

    def items(self, descriptor: int, base: str, partial: str = "") -> Generator[ObjectInfo | str]:
        """Yield, in order, the objects and prefixes in the open folder, whose keys begin with `base`; skip links."""
        after, wanted = self.query.after.encode(), partial.encode()
        names = self.folders.of(descriptor)
        for index in range(self._start(names, base.encode(), wanted), len(names)):
            name = names[index]
            if not name.startswith(wanted):
                return
            full, is_folder = base.encode() + name, name.endswith(b"/")
            if full <= after and not (is_folder and after.startswith(full)):
                continue
            if not is_folder:
                yield from _file(descriptor, name, full)
            elif not (self.query.delimiter and after.startswith(full)):
                yield from self._child(descriptor, name[:-1], full)

    def _start(self, names: list[bytes], base: bytes, wanted: bytes) -> int:
        """Return the index of the first name that can follow `after` and begin with `wanted`."""
        first, after = bisect_left(names, wanted), self.query.after.encode()
        if after <= base:
            return first
        if not after.startswith(base):
            return len(names)
        rest = after[len(base) :]
        folder, slash, _ = rest.partition(b"/")
        return max(first, bisect_left(names, folder + slash))

    def _child(self, parent: int, name: bytes, full: bytes) -> Generator[ObjectInfo | str]:
        try:
            key = full.decode()
            child = os.open(name, DIRECTORY, dir_fd=parent)
        except (UnicodeDecodeError, *ABSENT_FOLDER):  # no valid key, or removed since the scan
            return
        try:
            if not self.query.delimiter:
                yield from self.items(child, key)
            elif next(Walk(Query(), self.folders).items(child, key), None) is not None:
                yield key
        finally:
            os.close(child)


def _file(parent: int, name: bytes, full: bytes) -> Iterator[ObjectInfo]:
    try:
        found = object_info(full.decode(), os.stat(name, dir_fd=parent, follow_symlinks=False))
    except (FileNotFoundError, UnicodeDecodeError):  # removed since the scan, or no valid key
        return
    if found is not None:
        yield found


def object_info(key: str, status: os.stat_result, made_folders: int = 0) -> ObjectInfo | None:
    """Return the metadata of a file as of an object; None if it is not a plain file."""
    if not stat.S_ISREG(status.st_mode):
        return None
    modified = datetime.fromtimestamp(status.st_mtime, UTC)
    return ObjectInfo(key, status.st_size, etag_of(status), modified, made_folders=made_folders)


def etag_of(status: os.stat_result) -> str:
    """Return the ETag of a file, which moving it to another name does not change."""
    return f"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_size:x}"


def measure_folder(descriptor: int) -> tuple[int, int]:
    """Return the total size of the files under the open folder, and the number of files and folders in it."""
    size = count = 0
    with os.scandir(descriptor) as entries:
        listed = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_folder in listed:
        try:
            if not is_folder:
                status = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
                size, count = size + (status.st_size if stat.S_ISREG(status.st_mode) else 0), count + 1
                continue
            child = os.open(name, DIRECTORY, dir_fd=descriptor)
        except ABSENT_FOLDER:  # removed meanwhile
            continue
        try:
            inner, more = measure_folder(child)
        finally:
            os.close(child)
        size, count = size + inner, count + more + 1
    return size, count
