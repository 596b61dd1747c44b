"""The new folder into which the files of an archive are written: its names, number and size are limited.

Nothing is overwritten and nothing is written outside of the folder, whatever the archive's names are. Used for a
record's downloaded files and, in a process of its own, for what is unpacked.
"""

from __future__ import annotations

import os
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ..errors import BuildFailed, RepoTooLarge
from ..policy.units import size_text

_HINT = "The record's authors can upload a corrected version."
_NAME_BYTES = 255  # NAME_MAX of the file systems of Linux and macOS
_SHOWN_CHARACTERS = 100


@dataclass(frozen=True, slots=True)
class ArchiveLimits:
    """Limits of an archive's files, as they are downloaded and as they are unpacked."""

    files: int = 50_000
    """How many files, folders and links there may be."""
    total_bytes: int = 4 << 30
    """The size of all files together; each launch gets a copy."""
    file_bytes: int = 4 << 30
    path_characters: int = 1024
    depth: int = 32
    """How many folders a file may be in."""
    ratio: int = 100
    """How many times its own size an archive may unpack to, if that is more than `ratio_free_bytes`."""
    ratio_free_bytes: int = 100 << 20
    seconds: float = 1200
    """How long all downloads and the unpacking may take together."""


def refused(message: str) -> BuildFailed:
    """Return the error for an archive that is not unpacked."""
    return BuildFailed(message, _HINT)


def shown(name: str) -> str:
    """Return `name` as a message shows it: printable, and not too long."""
    return "".join(each if each.isprintable() and each != "`" else "?" for each in name[:_SHOWN_CHARACTERS])


class Contents:
    """The files of one archive below `folder`, which exists and is empty.

    Raises BuildFailed for a name that is not allowed and RepoTooLarge above a limit; the folder is then to be removed.
    """

    def __init__(self, folder: Path, limits: ArchiveLimits, archive_bytes: int | None = None) -> None:
        """`archive_bytes` is the size of the archive that is unpacked, for the limit of its ratio."""
        self._folder = folder
        self._limits = limits
        self._made: set[tuple[str, ...]] = {()}
        self._tops: set[str] = set()
        self._links: dict[tuple[str, ...], str] = {}
        self._expanded = None if archive_bytes is None else max(limits.ratio * archive_bytes, limits.ratio_free_bytes)
        self.bytes = 0
        """The size of the files so far."""

    @property
    def count(self) -> int:
        """The number of files, folders and links so far."""
        return len(self._made) - 1

    def add_folder(self, name: str) -> None:
        """Make a folder and those above it; they may exist."""
        self._make_folder(self._parts(name), name)

    def open_new(self, name: str, executable: bool = False) -> BinaryIO:
        """Return a new file to write; the caller counts its bytes with `add_bytes`."""
        parts = self._new(name)
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
            return os.fdopen(os.open(self._path(parts), flags, 0o755 if executable else 0o644), "wb")
        except FileExistsError:  # on a file system that does not tell upper case from lower case
            raise _twice(name) from None

    def add_bytes(self, count: int, of: int = 0) -> None:
        """Count bytes that are to be written to a file; `of` is the size of the file with them."""
        self.bytes += count
        limits = self._limits
        if of > limits.file_bytes:
            raise _too_large(f"A file of this record has more than {size_text(limits.file_bytes)}.")
        if self.bytes > limits.total_bytes:
            raise _too_large(f"The files of this record have more than {size_text(limits.total_bytes)} together.")
        if self._expanded is not None and self.bytes > self._expanded:
            raise refused(f"The archive of this record unpacks to more than {limits.ratio} times its size.")

    def add_link(self, name: str, target: str) -> None:
        """Keep a symbolic link for `finish`, so that nothing is written through it."""
        if not target or len(target) > self._limits.path_characters or _is_unreadable(target):
            raise _leads_out(name)
        self._links[self._new(name)] = target

    def existing(self, name: str) -> Path | None:
        """Return the path of the file `name` that was written before; None if there is none."""
        parts = self._parts(name)
        path = self._path(parts)
        return path if parts in self._made and parts not in self._links and path.is_file() else None

    def finish(self, target: Path) -> None:
        """Move the files to the new folder `target`, without a folder that holds all of them, and make the links."""
        top = next(iter(self._tops)) if len(self._tops) == 1 else ""
        is_folder = bool(top) and (self._folder / top).is_dir()
        (self._folder / top if is_folder else self._folder).rename(target)
        links = {parts[1:] if is_folder else parts: aim for parts, aim in self._links.items()}
        for parts, aim in links.items():
            try:
                target.joinpath(*parts).symlink_to(aim)
            except FileExistsError:
                raise _twice("/".join(parts)) from None
        root = os.path.realpath(target)
        for parts in links:  # after all are made: a link may lead through others
            resolved = os.path.realpath(target.joinpath(*parts))
            if resolved != root and not resolved.startswith(root + os.sep):
                raise _leads_out("/".join(parts))

    def _path(self, parts: tuple[str, ...]) -> Path:
        return self._folder.joinpath(*parts)

    def _parts(self, name: str) -> tuple[str, ...]:
        limits = self._limits
        if _is_unreadable(name):
            raise refused(f"This record has a file whose name is not readable text: `{shown(name)}`.")
        parts = tuple(part for part in name.split("/") if part not in ("", "."))
        if name.startswith("/") or ".." in parts:
            raise refused(f"This record has a file that lies outside of its folder: `{shown(name)}`.")
        too_long = len(name) > limits.path_characters or any(len(part.encode()) > _NAME_BYTES for part in parts)
        if too_long or len(parts) > limits.depth:
            raise refused(f"This record has a file whose name is too long, or in too many folders: `{shown(name)}`.")
        return parts

    def _new(self, name: str) -> tuple[str, ...]:
        """Return the parts of a new name, and make its folder."""
        parts = self._parts(name)
        if not parts or name.endswith("/"):
            raise refused(f"This record has a file without a name: `{shown(name)}`.")
        if parts in self._made:
            raise _twice(name)
        self._make_folder(parts[:-1], name)
        self._remember(parts)
        return parts

    def _make_folder(self, parts: tuple[str, ...], name: str) -> None:
        for length in range(1, len(parts) + 1):
            folder = parts[:length]
            path = self._path(folder)
            if folder not in self._made:
                self._remember(folder)
                try:
                    path.mkdir(0o755)
                except FileExistsError:
                    if not path.is_dir():  # else the same name in another case
                        raise _twice(name) from None
            elif folder in self._links or not path.is_dir():
                raise _twice(name)

    def _remember(self, parts: tuple[str, ...]) -> None:
        self._made.add(parts)
        self._tops.add(parts[0])
        if self.count > self._limits.files:
            raise _too_large(f"This record has more than {self._limits.files} files and folders.")


def _is_unreadable(name: str) -> bool:
    """Return whether a name has control characters, or bytes that are not UTF-8."""
    return any(unicodedata.category(each) in ("Cc", "Cs") for each in name)


def _twice(name: str) -> BuildFailed:
    return refused(f"This record has two files of the same name: `{shown(name)}`.")


def _leads_out(name: str) -> BuildFailed:
    return refused(f"This record has a link that leads out of its folder: `{shown(name)}`.")


def _too_large(message: str) -> RepoTooLarge:
    return RepoTooLarge(message, "Read large data from object storage instead.")
