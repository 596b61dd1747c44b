"""A bucket that is a directory: one plain file per object, listed in key order without walking more than a page needs.

Every path is opened part by part and never through a symbolic link (obstore's LocalStore follows links). So a link in
the directory gives no access to its target. Limits that S3 does not have: `a` and `a/b` cannot both be objects, and
user metadata is not kept. File operations run in threads. Not for quotas or access.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import shutil
import stat
from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from .bucket import WINDOW_BYTES, Bucket, ObjectInfo, OpenObject, Page, Query, Span, exists_already
from .errors import S3Error
from .filework import in_file_thread
from .spool import Spool

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO)
"""The errors of opening a path without a plain file: absent, a file as a parent, a link, a socket."""
_TRIES = 10
"""Attempts to write: deleting the last object of a parent directory may remove it between creation and use."""


class DirectoryBucket(Bucket):
    """The objects under the directory `root`."""

    def __init__(self, root: Path) -> None:
        self._root = root

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

    async def delete(self, key: str) -> None:
        """Delete the file at `key`, and its parent directories that become empty."""
        await in_file_thread(self._delete, key)

    async def scan(self, query: Query) -> Page:
        """Return the first objects and common prefixes after `query.after`."""
        return await in_file_thread(self._scan, query)

    async def delete_prefix(self, prefix: str) -> None:
        """Delete everything under `prefix`, including links (but not their targets)."""
        with contextlib.suppress(FileNotFoundError):
            await in_file_thread(shutil.rmtree, self._root / prefix)

    def _head(self, key: str) -> ObjectInfo | None:
        try:
            with self._parent(key) as (parent, name):
                return _object_info(key, os.stat(name, dir_fd=parent, follow_symlinks=False))
        except OSError as error:
            _raise_unless_absent(error)
            return None

    def _open(self, key: str) -> tuple[int, ObjectInfo] | None:
        try:
            with self._parent(key) as (parent, name):
                file = os.open(name, _FILE, dir_fd=parent)
        except OSError as error:
            _raise_unless_absent(error)
            return None
        found = _object_info(key, os.fstat(file))
        if found is None:
            os.close(file)
            return None
        return file, found

    def _write(self, key: str, spool: Spool, create: bool) -> ObjectInfo:
        source = spool.file()
        for _ in range(_TRIES):
            try:
                with self._parent(key, make=True) as (parent, name):
                    return self._put_file(key, source, parent, name, spool=spool, create=create)
            except FileExistsError:
                raise exists_already(key) from None
            except FileNotFoundError:
                continue
            except OSError as error:
                raise _to_s3_error(key, error) from error
        raise S3Error("ServiceUnavailable", "The directory is being removed; try again.")

    def _put_file(self, key: str, source: Path, parent: int, name: bytes, *, spool: Spool, create: bool) -> ObjectInfo:
        _clear_directory(parent, name)
        if create:
            os.link(source, name, dst_dir_fd=parent)
        else:
            os.replace(source, name, dst_dir_fd=parent)
            spool.release_file()
        found = _object_info(key, os.stat(name, dir_fd=parent, follow_symlinks=False))
        assert found is not None
        return found

    def _delete(self, key: str) -> None:
        parts = key.encode().split(b"/")
        try:
            with self._parent(key) as (parent, name):
                os.unlink(name, dir_fd=parent)
            for depth in range(len(parts) - 1, 1, -1):
                with self._parent("/".join(part.decode() for part in parts[:depth])) as (parent, name):
                    os.rmdir(name, dir_fd=parent)
        except OSError as error:
            if error.errno not in (*_ABSENT, errno.ENOTEMPTY, errno.EISDIR, errno.EPERM):
                raise _to_s3_error(key, error) from error

    @contextmanager
    def _parent(self, key: str, make: bool = False) -> Iterator[tuple[int, bytes]]:
        """Open the parent directory of `key` without following links; yield its descriptor and the file's name."""
        *parents, name = key.encode().split(b"/")
        with _open_folder(self._root, parents, make) as descriptor:
            yield descriptor, name

    def _scan(self, query: Query) -> Page:
        folder, _, partial = query.prefix.rpartition("/")
        parents = folder.encode().split(b"/") if folder else []
        base = f"{folder}/" if folder else ""
        objects: list[ObjectInfo] = []
        prefixes: list[str] = []
        last = ""
        try:
            with (
                _open_folder(self._root, parents) as descriptor,
                closing(_walk(descriptor, base, query, partial)) as items,
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


@contextmanager
def _open_folder(root: Path, parents: list[bytes], make: bool = False) -> Iterator[int]:
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in parents:
            descriptor = _descend(descriptor, part, make)
        yield descriptor
    finally:
        os.close(descriptor)


def _descend(parent: int, name: bytes, make: bool) -> int:
    """Return the directory `name` in `parent`; close `parent` on success only (else the caller closes it)."""
    try:
        child = os.open(name, _DIRECTORY, dir_fd=parent)
    except FileNotFoundError:
        if not make:
            raise
        try:
            os.mkdir(name, 0o700, dir_fd=parent)
        except FileExistsError:  # another request created it first
            return _descend(parent, name, False)
        child = os.open(name, _DIRECTORY, dir_fd=parent)
    os.close(parent)
    return child


def _walk(descriptor: int, base: str, query: Query, partial: str = "") -> Generator[ObjectInfo | str]:
    """Yield, in order, the objects and prefixes under the open directory, whose keys begin with `base`; skip links."""
    with os.scandir(descriptor) as entries:
        listed = [(os.fsencode(entry.name), entry.is_dir(follow_symlinks=False)) for entry in entries]
    after, wanted = query.after.encode(), partial.encode()
    for name, is_directory in sorted(listed, key=lambda item: item[0] + b"/" if item[1] else item[0]):
        full = base.encode() + name + (b"/" if is_directory else b"")
        if not name.startswith(wanted) or (full <= after and not (is_directory and after.startswith(full))):
            continue
        if is_directory and not (query.delimiter and after.startswith(full)):
            yield from _walk_child(descriptor, name, query, full)
        elif not is_directory:
            yield from _file(descriptor, name, full)


def _walk_child(parent: int, name: bytes, query: Query, full: bytes) -> Generator[ObjectInfo | str]:
    try:
        key = full.decode()
        child = os.open(name, _DIRECTORY, dir_fd=parent)
    except UnicodeDecodeError:  # no valid key
        return
    except OSError as error:
        _raise_unless_absent(error)
        return
    try:
        if not query.delimiter:
            yield from _walk(child, key, query)
        elif next(_walk(child, key, Query()), None) is not None:
            yield key
    finally:
        os.close(child)


def _file(parent: int, name: bytes, full: bytes) -> Iterator[ObjectInfo]:
    try:
        found = _object_info(full.decode(), os.stat(name, dir_fd=parent, follow_symlinks=False))
    except (FileNotFoundError, UnicodeDecodeError):  # removed since the scan, or no valid key
        return
    if found is not None:
        yield found


def _object_info(key: str, status: os.stat_result) -> ObjectInfo | None:
    if not stat.S_ISREG(status.st_mode):
        return None
    etag = f"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_size:x}"
    return ObjectInfo(key, status.st_size, etag, datetime.fromtimestamp(status.st_mtime, UTC))


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


def _to_s3_error(key: str, error: OSError) -> S3Error:
    if isinstance(error, (NotADirectoryError, IsADirectoryError)) or error.errno == errno.ENOTEMPTY:
        return S3Error("InvalidArgument", f"In this store {key!r} cannot be both an object and a prefix of others.")
    return S3Error("ServiceUnavailable", "The store cannot write now; try again.")


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
