"""A bucket that is a directory: one plain file per object, listed in key order without walking more than a page needs.

Every path is opened part by part and never through a symbolic link, so that whoever plants one in the directory reads
nothing with it (obstore's LocalStore follows them). Limits a directory has and S3 has not: `a` and `a/b` cannot both be
objects, and user metadata is not kept. File work runs in threads. Not for quotas or access.
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

from .bucket import WINDOW_BYTES, Bucket, Found, Opened, Page, Query, Span, exists_already
from .errors import S3Error
from .spool import Spool

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO)
"""What opening says where no plain file is: nothing, a file as a parent, a link, a socket."""
_TRIES = 10
"""A parent directory may vanish between making and using it, when its last object is deleted at that moment."""


class DirectoryBucket(Bucket):
    """The objects under the directory `root`."""

    def __init__(self, root: Path) -> None:
        self._root = root

    async def head(self, key: str) -> Found | None:
        """Return what is at `key`, or None."""
        return await asyncio.to_thread(self._head, key)

    async def open(self, key: str, span: Span | None) -> Opened | None:
        """Open the file at `key`; reads go to that file even where `key` is overwritten meanwhile."""
        opened = await asyncio.to_thread(self._open, key)
        if opened is None:
            return None
        file, found = opened
        try:
            start, end = span.within(found.size) if span else (0, found.size)
        except S3Error:
            os.close(file)
            raise
        reader = _Reader(file)
        return Opened(found, start, end, reader.windows(start, end), reader.close)

    async def write(self, key: str, spool: Spool, create: bool) -> Found:
        """Move the spool's file to `key`."""
        return await asyncio.to_thread(self._write, key, spool, create)

    async def delete(self, key: str) -> None:
        """Remove the file at `key`, and the directories that are empty then."""
        await asyncio.to_thread(self._delete, key)

    async def scan(self, query: Query) -> Page:
        """Return the first objects and common prefixes after `query.after`."""
        return await asyncio.to_thread(self._scan, query)

    async def drop(self, prefix: str) -> None:
        """Remove everything under `prefix`, also what is no object, such as links (but not what they point to)."""
        with contextlib.suppress(FileNotFoundError):
            await asyncio.to_thread(shutil.rmtree, self._root / prefix)

    def _head(self, key: str) -> Found | None:
        try:
            with self._parent(key) as (parent, name):
                return _found(key, os.stat(name, dir_fd=parent, follow_symlinks=False))
        except OSError as error:
            _only_absence(error)
            return None

    def _open(self, key: str) -> tuple[int, Found] | None:
        try:
            with self._parent(key) as (parent, name):
                file = os.open(name, _FILE, dir_fd=parent)
        except OSError as error:
            _only_absence(error)
            return None
        found = _found(key, os.fstat(file))
        if found is None:
            os.close(file)
            return None
        return file, found

    def _write(self, key: str, spool: Spool, create: bool) -> Found:
        source = spool.file()
        for _ in range(_TRIES):
            try:
                with self._parent(key, make=True) as (parent, name):
                    return self._place(key, source, parent, name, spool=spool, create=create)
            except FileExistsError:
                raise exists_already(key) from None
            except FileNotFoundError:
                continue
            except OSError as error:
                raise _refusal(key, error) from error
        raise S3Error("ServiceUnavailable", "The directory is being removed at this moment; try again.")

    def _place(self, key: str, source: Path, parent: int, name: bytes, *, spool: Spool, create: bool) -> Found:
        _clear_directory(parent, name)
        if create:
            os.link(source, name, dst_dir_fd=parent)
        else:
            os.replace(source, name, dst_dir_fd=parent)
            spool.taken()
        found = _found(key, os.stat(name, dir_fd=parent, follow_symlinks=False))
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
                raise _refusal(key, error) from error

    @contextmanager
    def _parent(self, key: str, make: bool = False) -> Iterator[tuple[int, bytes]]:
        """Open the directory `key` lies in, through no link; yield its descriptor and the file's name."""
        *parents, name = key.encode().split(b"/")
        with _below(self._root, parents, make) as descriptor:
            yield descriptor, name

    def _scan(self, query: Query) -> Page:
        folder, _, partial = query.prefix.rpartition("/")
        parents = folder.encode().split(b"/") if folder else []
        base = f"{folder}/" if folder else ""
        objects: list[Found] = []
        prefixes: list[str] = []
        last = ""
        try:
            with _below(self._root, parents) as descriptor, closing(_walk(descriptor, base, query, partial)) as items:
                for item in items:
                    if len(objects) + len(prefixes) >= query.limit:
                        return Page(tuple(objects), tuple(prefixes), last)
                    if isinstance(item, Found):
                        objects.append(item)
                        last = item.key
                    else:
                        prefixes.append(item)
                        last = item
        except OSError as error:
            _only_absence(error)
        return Page(tuple(objects), tuple(prefixes))


@contextmanager
def _below(root: Path, parents: list[bytes], make: bool = False) -> Iterator[int]:
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in parents:
            descriptor = _descend(descriptor, part, make)
        yield descriptor
    finally:
        os.close(descriptor)


def _descend(parent: int, name: bytes, make: bool) -> int:
    """Return the directory `name` in `parent`, which is closed on success only (the caller closes it otherwise)."""
    try:
        child = os.open(name, _DIRECTORY, dir_fd=parent)
    except FileNotFoundError:
        if not make:
            raise
        try:
            os.mkdir(name, 0o700, dir_fd=parent)
        except FileExistsError:  # another request made it first
            return _descend(parent, name, False)
        child = os.open(name, _DIRECTORY, dir_fd=parent)
    os.close(parent)
    return child


def _walk(descriptor: int, base: str, query: Query, partial: str = "") -> Generator[Found | str]:
    """Yield, in order, what lies under the open directory whose keys begin with `base`; links are left out."""
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


def _walk_child(parent: int, name: bytes, query: Query, full: bytes) -> Generator[Found | str]:
    try:
        key = full.decode()
        child = os.open(name, _DIRECTORY, dir_fd=parent)
    except UnicodeDecodeError:  # no key could name it
        return
    except OSError as error:
        _only_absence(error)
        return
    try:
        if not query.delimiter:
            yield from _walk(child, key, query)
        elif next(_walk(child, key, Query()), None) is not None:
            yield key
    finally:
        os.close(child)


def _file(parent: int, name: bytes, full: bytes) -> Iterator[Found]:
    try:
        found = _found(full.decode(), os.stat(name, dir_fd=parent, follow_symlinks=False))
    except (FileNotFoundError, UnicodeDecodeError):  # removed meanwhile, or no key could name it
        return
    if found is not None:
        yield found


def _found(key: str, status: os.stat_result) -> Found | None:
    if not stat.S_ISREG(status.st_mode):
        return None
    etag = f"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_size:x}"
    return Found(key, status.st_size, etag, datetime.fromtimestamp(status.st_mtime, UTC))


def _clear_directory(parent: int, name: bytes) -> None:
    """Remove a directory left over without objects, which would be in the way of an object of its name."""
    try:
        os.rmdir(name, dir_fd=parent)
    except OSError:
        return


def _only_absence(error: OSError) -> None:
    """Raise unless `error` says that nothing is there: too many open files, say, must not look like a missing chunk."""
    if error.errno not in _ABSENT:
        raise S3Error("ServiceUnavailable", "The store cannot be read at this moment.") from error


def _refusal(key: str, error: OSError) -> S3Error:
    if isinstance(error, (NotADirectoryError, IsADirectoryError)) or error.errno == errno.ENOTEMPTY:
        return S3Error("InvalidArgument", f"In this store {key!r} cannot be both an object and a beginning of others.")
    return S3Error("ServiceUnavailable", "The store cannot write at this moment.")


class _Reader:
    """Reads an open file, one window ahead of the one being sent."""

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
                self._ahead = asyncio.ensure_future(asyncio.to_thread(os.pread, self._file, size, position))
                position += size
            if current is not None:
                yield await current

    async def close(self) -> None:
        """Close the file once no thread reads it any more: its number may be another file's right after."""
        if self._ahead is not None:
            await asyncio.wait([self._ahead])
        os.close(self._file)
