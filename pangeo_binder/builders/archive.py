"""Fetch the files of an archive's record into a new folder, and unpack a record that is one zip or tar.

All of it is under limits of number, size and time; a checksum that the archive gives is checked. On any failure nothing
is left. Runs in the binder and in build pods; `unpack` reads the zip or tar, in a process of its own.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import shutil
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Any, BinaryIO, Final

import aiohttp

from ..archives.base import ArchiveFile, ArchiveFiles, list_files, trusted_server
from ..command import Command, CommandTimedOut, OutputTooLarge, capture, inherited
from ..errors import BuildFailed, HostBusy, HostUnavailable, PangeoBinderError, RepoNotFound, UserError, refusal_from
from ..model import Repo
from ..policy.units import duration_text
from ..public_hosts import Addresses, AddressRefused
from .base import disk_full
from .contents import ArchiveLimits, Contents, refused, shown
from .download import chunks, download_session
from .unpack import DISK_FULL, NOT_AN_ARCHIVE, REFUSED, arguments

_USER_AGENT: Final = "pangeo-binder"
_ATTEMPTS: Final = 3
_RETRY_SECONDS: Final = 2
_PROGRESS_SECONDS: Final = 10
_MEMORY_BYTES: Final = 1 << 30
"""The memory of the process that unpacks; its table of contents may have `ArchiveLimits.files` entries and more."""
_REPORT_BYTES: Final = 1 << 14
_DIGESTS: Final = ("md5", "sha1", "sha256", "sha512")
_MISSING: Final = (401, 403, 404, 410)
_BUSY: Final = 429


class ArchiveCheckout:
    """The files of one record, in one new folder."""

    def __init__(self, repo: Repo, into: Path, deadline: float, limits: ArchiveLimits) -> None:
        self._repo = repo
        self._into = into
        self._limits = limits
        self._deadline = deadline
        self._ends = min(deadline, time.monotonic() + limits.seconds)
        self._addresses = Addresses(trusted_server(repo))

    async def run(self) -> AsyncGenerator[str, None]:
        """Fetch the files and yield the log. Raises a UserError, CommandTimedOut or OSError; nothing is left then."""
        parts = self._into.with_name(f"{self._into.name}-parts")
        done = False
        try:
            async with aclosing(self._run(parts)) as said:
                async for line in said:
                    yield line
            done = True
        except TimeoutError:
            raise self._too_slow() from None
        except OSError as error:
            raise (disk_full() if error.errno == errno.ENOSPC else error) from None
        finally:
            for folder in (parts, *(() if done else (self._into,))):
                await asyncio.shield(asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True))

    async def _run(self, parts: Path) -> AsyncGenerator[str, None]:
        yield f"Fetching {self._repo.ref.url} at {self._repo.revision}"
        async with asyncio.timeout(self._remaining()):
            listed = await self.list_files()
        self._check(listed)
        folder = parts / "files"
        folder.mkdir(parents=True)
        contents = Contents(folder, self._limits)
        async with download_session(self._addresses, _USER_AGENT) as session:
            for number, file in enumerate(listed.files, 1):
                yield f"Downloading file {number} of {len(listed.files)}, {_size(file.size_bytes)}: {shown(file.path)}"
                async with aclosing(self._download(session, file, contents)) as said:
                    async for line in said:
                        yield line
        if listed.unpack and len(listed.files) == 1:
            yield await self._unpack(folder / listed.files[0].path.lstrip("/"), parts / "unpacked")
        if not self._into.exists():
            folder.rename(self._into)

    async def list_files(self) -> ArchiveFiles:
        """Return the record's files, as its archive lists them. Raises UserError."""
        return await list_files(self._repo)

    def _check(self, listed: ArchiveFiles) -> None:
        """Refuse what the listing alone shows to be too much, before anything is downloaded."""
        if not listed.files:
            raise BuildFailed("This record has no files that anyone may download.", "Check it in a browser.")
        planned = Contents(self._into, self._limits)
        for file in listed.files:
            planned.add_bytes(file.size_bytes or 0, file.size_bytes or 0)

    def _remaining(self) -> float:
        return max(0.0, self._ends - time.monotonic())

    def _too_slow(self) -> PangeoBinderError:
        if self._ends == self._deadline:
            return CommandTimedOut("fetching the files of an archive")
        limit = duration_text(int(self._limits.seconds))
        return BuildFailed(f"Fetching the files of this record took longer than {limit}.", "Try again later.")

    async def _download(
        self, session: aiohttp.ClientSession, file: ArchiveFile, contents: Contents
    ) -> AsyncGenerator[str, None]:
        """Write one file and yield the progress of a long download. Raises a UserError or TimeoutError."""
        with contents.open_new(file.path) as target:
            receiver = _Receiver(file, contents, target)
            task = asyncio.create_task(self._receive(session, receiver))
            try:
                while not (await asyncio.wait({task}, timeout=_PROGRESS_SECONDS))[0]:
                    yield f"Downloaded {_size(receiver.size)} of {_size(file.size_bytes)}: {shown(file.path)}"
                await task
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    async def _receive(self, session: aiohttp.ClientSession, receiver: _Receiver) -> None:
        async with asyncio.timeout(self._remaining()):
            for attempt in range(1, _ATTEMPTS + 1):
                try:
                    async with aclosing(chunks(session, self._addresses, receiver.file.url)) as body:
                        async for chunk in body:
                            await asyncio.to_thread(receiver.write, chunk)
                    receiver.finish()
                    return
                except AddressRefused as error:
                    raise HostUnavailable(f"The files of this record cannot be fetched, because {error}.") from None
                except (aiohttp.ClientError, ValueError, ConnectionError) as error:
                    if attempt == _ATTEMPTS or not _may_pass(error):
                        raise _failure(receiver.file, error) from None
                    await asyncio.to_thread(receiver.restart)
                    await asyncio.sleep(_RETRY_SECONDS * attempt)

    async def _unpack(self, archive: Path, staging: Path) -> str:
        """Unpack the record's only file into the new folder, if it is an archive; return a line for the log."""
        argv = arguments(self._limits, archive, staging, self._into)
        env = {**inherited(), "LC_ALL": "C.UTF-8"}
        command = Command(argv, env, archive.parent, self._remaining(), memory_bytes=_MEMORY_BYTES)
        try:
            ended = await capture(command, _REPORT_BYTES)
        except CommandTimedOut:
            raise self._too_slow() from None
        except OutputTooLarge:
            raise refused("The archive of this record cannot be unpacked.") from None
        match ended.code:
            case 0:
                return ended.out
            case code if code == NOT_AN_ARCHIVE:
                return "The record's file is neither a zip nor a tar archive and stays as it is."
            case code if code == DISK_FULL:
                raise disk_full()
            case code if code == REFUSED and (reason := refusal_from(ended.out)):
                raise reason
        raise refused("The archive of this record cannot be unpacked.")


class _Receiver:
    """One file as it arrives: counted, hashed and written."""

    def __init__(self, file: ArchiveFile, contents: Contents, target: BinaryIO) -> None:
        self.file = file
        self.size = 0
        self._contents = contents
        self._target = target
        self._restart_digest()

    def _restart_digest(self) -> None:
        name, _, self._expected = self.file.checksum.lower().partition(":")
        self._digest: Any = hashlib.new(name, usedforsecurity=False) if name in _DIGESTS else None

    def write(self, chunk: bytes) -> None:
        """Write a part of the file. Raises RepoTooLarge above a limit."""
        self.size += len(chunk)
        self._contents.add_bytes(len(chunk), self.size)
        if self.file.size_bytes is not None and self.size > self.file.size_bytes:
            raise self._differs()
        if self._digest:
            self._digest.update(chunk)
        self._target.write(chunk)

    def restart(self) -> None:
        """Forget what arrived, for another attempt."""
        self._contents.add_bytes(-self.size)
        self.size = 0
        self._target.seek(0)
        self._target.truncate()
        self._restart_digest()

    def finish(self) -> None:
        """Compare the file with what the archive says about it. Raises BuildFailed."""
        incomplete = self.file.size_bytes is not None and self.size != self.file.size_bytes
        if incomplete or (self._digest and self._digest.hexdigest() != self._expected):
            raise self._differs()

    def _differs(self) -> UserError:
        return refused(
            f"The archive sent another file than the one that its record lists: `{shown(self.file.path)}`.",
        )


def _may_pass(error: Exception) -> bool:
    """Return whether another attempt may succeed."""
    if isinstance(error, aiohttp.ClientResponseError):
        return error.status == _BUSY or error.status >= 500
    return not isinstance(error, ValueError)


def _failure(file: ArchiveFile, error: Exception) -> UserError:
    """Return the error for a file that could not be downloaded."""
    name = f"The record's file `{shown(file.path)}`"
    status = error.status if isinstance(error, aiohttp.ClientResponseError) else 0
    if status in _MISSING:
        return RepoNotFound(f"{name} cannot be downloaded by everyone.", "A binder can read only public files.")
    if status == _BUSY:
        return HostBusy(f"{name} was not sent: the archive answers no more requests now.", "Try again in a minute.")
    return HostUnavailable(f"{name} could not be downloaded.", "Try again in a minute.")


def _size(count: int | None) -> str:
    return "unknown size" if count is None else f"{count / (1 << 20):.1f} MiB"
