"""A bucket that is a directory: one plain file per object, listed in key order without walking more than a page needs.

Every path is opened part by part and never through a symbolic link (obstore's LocalStore follows links). So a link in
the directory gives no access to its target. Limits that S3 does not have: `a` and `a/b` cannot both be objects, and
user metadata is not kept. File operations run in threads. Not for quotas or access, nor for walks (`walk`).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import shutil
import stat
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..durable import Durability, sync_file, sync_open_folder
from .bucket import WINDOW_BYTES, Bucket, ObjectInfo, OpenObject, Page, Query, Span, Target, exists_already
from .errors import S3Error, is_full, os_error
from .filework import in_copy_thread, in_file_thread, in_walk_thread
from .spool import Spool
from .walk import DIRECTORY, FolderNames, Walk, etag_of, measure_folder, object_info

_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO)
"""The errors of opening a path without a plain file: absent, a file as a parent, a link, a socket."""
_TRIES = 10
"""Attempts to write: deleting the last object of a parent directory may remove it between creation and use."""


class DirectoryBucket(Bucket):
    """The objects under the directory `root`."""

    def __init__(self, root: Path, durability: Durability = Durability.FULL) -> None:
        self._root = root
        self._durability = durability
        self._folders = FolderNames()

    async def head(self, key: str) -> ObjectInfo | None:
        """Return the metadata of the file at `key`; None if there is none."""
        return await in_file_thread(self._head, key)

    async def open(self, key: str, span: Span | None) -> OpenObject | None:
        """Open the file at `key`; reads use this file even if `key` is overwritten."""
        opened = await in_file_thread(self._open, key)
        if opened is None:
            return None
        file, found = opened
        try:
            start, end = span.within(found.size) if span else (0, found.size)
        except S3Error:
            os.close(file)
            raise
        reader = _Reader(file)
        return OpenObject(found, start, end, reader.windows(start, end), reader.close)

    async def write(self, key: str, spool: Spool, create: bool) -> ObjectInfo:
        """Move the spool's file to `key`."""
        return await in_file_thread(self._write, key, spool, create)

    async def target(self, key: str) -> Target:
        """Return what a write to `key` would meet. Raises S3Error if `key` collides with a folder or an object."""
        return await in_file_thread(self._target, key)

    async def expected_etag(self, spool: Spool) -> str:
        """Return the ETag that an object written from `spool` will have."""
        return await in_file_thread(lambda: etag_of(spool.file().stat()))

    async def delete(self, key: str) -> int:
        """Delete the file at `key`, and its parent directories that become empty."""
        return await in_file_thread(self._delete, key)

    async def scan(self, query: Query) -> Page:
        """Return the first objects and common prefixes after `query.after`."""
        return await in_walk_thread(self._scan, query)

    async def measure(self, prefix: str) -> tuple[int, int]:
        """Return the total size in bytes of the files under `prefix`, and the number of files and folders."""
        return await in_walk_thread(self._measure, prefix)

    async def delete_prefix(self, prefix: str) -> None:
        """Delete everything under `prefix`, including links (but not their targets)."""
        with contextlib.suppress(FileNotFoundError):
            await in_copy_thread(shutil.rmtree, self._root / prefix)

    def _measure(self, prefix: str) -> tuple[int, int]:
        try:
            with _open_folder(self._root, prefix.rstrip("/").encode().split(b"/")) as (descriptor, _):
                return measure_folder(descriptor)
        except OSError as error:
            _raise_unless_absent(error)
            return 0, 0

    def _target(self, key: str) -> Target:
        *parents, name = key.encode().split(b"/")
        for depth in range(len(parents), -1, -1):  # from the deepest parent that exists
            try:
                with _open_folder(self._root, parents[:depth]) as (descriptor, _):
                    if depth < len(parents):
                        _refuse_other_than_folder(key, parents[depth], descriptor)
                        return Target(None, len(parents) - max(depth, 1))
                    return Target(_at(key, name, descriptor))
            except FileNotFoundError:
                continue
            except OSError as error:
                raise _to_s3_error(key, error) from error
        return Target(None)

    def _head(self, key: str) -> ObjectInfo | None:
        try:
            with self._parent(key) as place:
                return object_info(key, os.stat(place.name, dir_fd=place.parent, follow_symlinks=False))
        except OSError as error:
            _raise_unless_absent(error)
            return None

    def _open(self, key: str) -> tuple[int, ObjectInfo] | None:
        try:
            with self._parent(key) as place:
                file = os.open(place.name, _FILE, dir_fd=place.parent)
        except OSError as error:
            _raise_unless_absent(error)
            return None
        found = object_info(key, os.fstat(file))
        if found is None:
            os.close(file)
            return None
        return file, found

    def _write(self, key: str, spool: Spool, create: bool) -> ObjectInfo:
        try:
            source = spool.file()
            sync_file(source, self._durability)
        except OSError as error:
            raise os_error(error) from error
        for _ in range(_TRIES):
            try:
                with self._parent(key, self._durability) as place:
                    return self._put_file(key, place, spool, create)
            except FileExistsError:
                raise exists_already(key) from None
            except FileNotFoundError:
                continue
            except OSError as error:
                self._remove_empty_parents(key)
                raise _to_s3_error(key, error) from error
        raise S3Error("ServiceUnavailable", "The directory is being removed; try again.")

    def _put_file(self, key: str, place: _Place, spool: Spool, create: bool) -> ObjectInfo:
        _clear_directory(place.parent, place.name)
        if create:
            os.link(spool.file(), place.name, dst_dir_fd=place.parent)
        else:
            os.replace(spool.file(), place.name, dst_dir_fd=place.parent)
            spool.release_file()
        sync_open_folder(place.parent, self._durability)
        status = os.stat(place.name, dir_fd=place.parent, follow_symlinks=False)
        found = object_info(key, status, place.made_folders)
        assert found is not None
        return found

    def _delete(self, key: str) -> int:
        try:
            with self._parent(key) as place:
                os.unlink(place.name, dir_fd=place.parent)
        except OSError as error:
            if error.errno not in (*_ABSENT, errno.EISDIR, errno.EPERM):
                raise _to_s3_error(key, error) from error
            return 0
        return 1 + self._remove_empty_parents(key)

    def _remove_empty_parents(self, key: str) -> int:
        """Remove the parents of `key` that are empty, except the first; return how many."""
        parts = key.encode().split(b"/")
        removed = 0
        with contextlib.suppress(OSError):  # one that is not empty, or gone
            for depth in range(len(parts) - 1, 1, -1):
                with _open_folder(self._root, parts[: depth - 1]) as (parent, _):
                    os.rmdir(parts[depth - 1], dir_fd=parent)
                removed += 1
        return removed

    @contextmanager
    def _parent(self, key: str, make: Durability | None = None) -> Iterator[_Place]:
        """Open the parent directory of `key` without following links; with `make`, make the missing ones."""
        *parents, name = key.encode().split(b"/")
        with _open_folder(self._root, parents, make) as (descriptor, made):
            yield _Place(descriptor, name, made)

    def _scan(self, query: Query) -> Page:
        folder, _, partial = query.prefix.rpartition("/")
        parents = folder.encode().split(b"/") if folder else []
        base = f"{folder}/" if folder else ""
        objects: list[ObjectInfo] = []
        prefixes: list[str] = []
        last = ""
        try:
            with (
                _open_folder(self._root, parents) as (descriptor, _),
                closing(Walk(query, self._folders).items(descriptor, base, partial)) as items,
            ):
                for item in items:
                    if len(objects) + len(prefixes) >= query.limit:
                        return Page(tuple(objects), tuple(prefixes), last)
                    if isinstance(item, ObjectInfo):
                        objects.append(item)
                        last = item.key
                    else:
                        prefixes.append(item)
                        last = item
        except OSError as error:
            _raise_unless_absent(error)
        return Page(tuple(objects), tuple(prefixes))


@dataclass(frozen=True, slots=True)
class _Place:
    """The open parent directory of a key, and the name of the key's file in it."""

    parent: int
    name: bytes
    made_folders: int


@contextmanager
def _open_folder(root: Path, parents: list[bytes], make: Durability | None = None) -> Iterator[tuple[int, int]]:
    """Open a folder; yield its descriptor, and how many folders were made below the first level."""
    descriptor, made = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), 0
    try:
        for depth, part in enumerate(parents):
            descriptor, is_new = _descend(descriptor, part, make)
            made += is_new and depth > 0
        yield descriptor, made
    finally:
        os.close(descriptor)


def _descend(parent: int, name: bytes, make: Durability | None) -> tuple[int, bool]:
    """Return the directory `name` in `parent`, and whether it is new; close `parent` on success only."""
    is_new = False
    try:
        child = os.open(name, DIRECTORY, dir_fd=parent)
    except FileNotFoundError:
        if make is None:
            raise
        with contextlib.suppress(FileExistsError):  # another request created it first
            os.mkdir(name, 0o700, dir_fd=parent)
            is_new = True
            sync_open_folder(parent, make)
        child = os.open(name, DIRECTORY, dir_fd=parent)
    os.close(parent)
    return child, is_new


def _at(key: str, name: bytes, parent: int) -> ObjectInfo | None:
    """Return the object `name` in the open folder `parent`. Raises S3Error if a folder with content is there."""
    try:
        status = os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(status.st_mode):
        with contextlib.suppress(OSError), _open_child(parent, name) as entries:
            if next(entries, None) is not None:
                raise _collision(key)
    return object_info(key, status)


@contextmanager
def _open_child(parent: int, name: bytes) -> Iterator[Iterator[os.DirEntry[str]]]:
    descriptor = os.open(name, DIRECTORY, dir_fd=parent)
    try:
        with os.scandir(descriptor) as entries:
            yield entries
    finally:
        os.close(descriptor)


def _refuse_other_than_folder(key: str, name: bytes, parent: int) -> None:
    """Raise S3Error if `name` in the open folder `parent` exists, and is not a folder."""
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
            raise _collision(key)


def _clear_directory(parent: int, name: bytes) -> None:
    """Remove an empty directory `name`, which would prevent creating an object of that name."""
    try:
        os.rmdir(name, dir_fd=parent)
    except OSError:
        return


def _raise_unless_absent(error: OSError) -> None:
    """Raise S3Error unless `error` means absence: too many open files must not look like a missing chunk."""
    if error.errno not in _ABSENT:
        raise S3Error("ServiceUnavailable", "The store cannot be read now; try again.") from error


def _collision(key: str) -> S3Error:
    return S3Error("InvalidArgument", f"In this store {key!r} cannot be both an object and a prefix of others.")


def _to_s3_error(key: str, error: OSError) -> S3Error:
    if isinstance(error, NotADirectoryError | IsADirectoryError) or error.errno == errno.ENOTEMPTY:
        return _collision(key)
    return (
        os_error(error) if is_full(error) else S3Error("ServiceUnavailable", "The store cannot write now; try again.")
    )


class _Reader:
    """Reader of an open file that reads one window ahead of the one being sent."""

    def __init__(self, file: int) -> None:
        self._file = file
        self._ahead: asyncio.Future[bytes] | None = None

    async def windows(self, start: int, end: int) -> AsyncIterator[bytes]:
        """Yield the bytes from `start` to `end`."""
        position = start
        while position < end or self._ahead is not None:
            current, self._ahead = self._ahead, None
            if position < end:
                size = min(WINDOW_BYTES, end - position)
                self._ahead = asyncio.ensure_future(in_file_thread(os.pread, self._file, size, position))
                position += size
            if current is not None:
                yield await current

    async def close(self) -> None:
        """Close the file when no thread reads it: its descriptor number may be reused at once."""
        if self._ahead is not None:
            await asyncio.wait([self._ahead])
        os.close(self._file)
