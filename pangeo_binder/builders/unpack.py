"""Unpack one zip or tar archive into a new folder, within limits and without trust in what it contains.

Runs in its own process (`python -I -m pangeo_binder.builders.unpack <archive> <staging> <folder> <limits>`) with limits
of time and memory: Python's readers hold the whole table of contents, and what an archive declares, in memory. It
prints how much it unpacked; a refusal is printed by `refusal_text` with exit code 2. A file that is not an archive is
left, as repo2docker leaves it, with exit code 3. Archives in the archive are not unpacked.
"""

from __future__ import annotations

import errno
import json
import lzma
import shutil
import stat
import struct
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import IO

from pangeo_binder.builders.contents import ArchiveLimits, Contents, refused, shown
from pangeo_binder.errors import UserError, refusal_text

REFUSED, NOT_AN_ARCHIVE, DISK_FULL = 2, 3, 4
"""Exit codes of this program."""

_CHUNK_BYTES = 1 << 18
_LINK_BYTES = 4096  # PATH_MAX
_UTF8_FLAG = 0x800  # https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT section 4.4.4
_ENCRYPTED_FLAGS = 0x1 | 0x40 | 0x2000
_UNIX = 3  # section 4.4.2: the upper half of the attributes is then a mode
_RESOURCE_FORKS = "__MACOSX/"
"""The folder that macOS adds to a zip; it would keep the repository's own folder from being the only one."""
_DAMAGED = (
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, OSError),
    *(struct.error, ValueError, OverflowError, IndexError, KeyError),
)
"""What Python's readers raise for archives that are damaged."""


def arguments(limits: ArchiveLimits, archive: Path, staging: Path, folder: Path) -> tuple[str, ...]:
    """Return the words that run this program: it unpacks `archive` by way of `staging`; neither folder exists yet."""
    paths = (str(archive), str(staging), str(folder))
    return (sys.executable, "-I", "-m", "pangeo_binder.builders.unpack", *paths, json.dumps(asdict(limits)))


def unpack(archive: Path, contents: Contents) -> bool:
    """Write what `archive` contains to `contents`; return whether it is an archive. Raises a UserError."""
    try:
        # a tar whose last file is a zip also ends like a zip
        if tarfile.is_tarfile(archive):
            _unpack_tar(archive, contents)
            return contents.count > 0  # a file of zeros is an empty tar
        if zipfile.is_zipfile(archive):
            _unpack_zip(archive, contents)
            return True
        return False
    except NotImplementedError:
        raise refused("The archive of this record is packed in a way that this binder cannot read.") from None
    except MemoryError:
        raise refused("The archive of this record needs more memory than this binder has for it.") from None
    except _DAMAGED as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise
        raise refused("The archive of this record is damaged.") from None


def _unpack_zip(archive: Path, contents: Contents) -> None:
    with zipfile.ZipFile(archive) as opened:
        for member in opened.infolist():
            name = _zip_name(member)
            if name.startswith(_RESOURCE_FORKS):
                continue
            mode = member.external_attr >> 16 if member.create_system == _UNIX else 0
            kind = stat.S_IFMT(mode)
            if member.flag_bits & _ENCRYPTED_FLAGS:
                raise refused(f"The archive of this record is encrypted: `{shown(name)}`.")
            if member.is_dir():
                contents.add_folder(name)
            elif kind not in (0, stat.S_IFREG, stat.S_IFLNK):
                raise _special(name)
            else:
                with opened.open(member) as source:
                    if kind == stat.S_IFLNK:
                        contents.add_link(name, source.read(_LINK_BYTES).decode())
                    else:
                        _copy(source, name, bool(mode & stat.S_IXUSR), contents)


def _zip_name(member: zipfile.ZipInfo) -> str:
    """Return a member's name: many programs write UTF-8 without the flag for it, which zipfile reads as cp437."""
    name = member.orig_filename  # `filename` ends at the first NUL
    if member.flag_bits & _UTF8_FLAG:
        return name
    try:
        return name.encode("cp437").decode()
    except UnicodeError:
        return name


def _unpack_tar(archive: Path, contents: Contents) -> None:
    with tarfile.open(archive, encoding="utf-8") as opened:
        while (member := opened.next()) is not None:
            opened.members.clear()  # type: ignore[attr-defined]  # it would keep all
            name = member.name
            if member.isdir():
                contents.add_folder(name)
            elif member.issym():
                contents.add_link(name, member.linkname)
            elif member.islnk():
                _copy_earlier(member, contents)
            elif not member.isreg():
                raise _special(name)
            else:
                source = opened.extractfile(member)
                assert source is not None
                _copy(source, name, bool(member.mode & stat.S_IXUSR), contents)


def _copy(source: IO[bytes], name: str, executable: bool, contents: Contents) -> None:
    size = 0
    with contents.open_new(name, executable) as file:
        while chunk := source.read(_CHUNK_BYTES):
            size += len(chunk)
            contents.add_bytes(len(chunk), size)
            file.write(chunk)


def _copy_earlier(member: tarfile.TarInfo, contents: Contents) -> None:
    """Write a hard link as a copy of the file that it names, which must come before it."""
    earlier = contents.existing(member.linkname)
    if earlier is None:
        raise refused(f"This record has a hard link to a file that it does not have: `{shown(member.name)}`.")
    with earlier.open("rb") as source:
        _copy(source, member.name, bool(earlier.stat().st_mode & stat.S_IXUSR), contents)


def _special(name: str) -> UserError:
    return refused(f"This record has something that is neither a file, a folder nor a link: `{shown(name)}`.")


def main(argv: Sequence[str]) -> int:
    """Unpack as the arguments say, and return the exit code. On a refusal nothing is left."""
    archive, staging, folder, limits = Path(argv[0]), Path(argv[1]), Path(argv[2]), ArchiveLimits(**json.loads(argv[3]))
    contents = Contents(staging, limits, archive.stat().st_size)
    staging.mkdir()
    try:
        if not unpack(archive, contents):
            return NOT_AN_ARCHIVE
        contents.finish(folder)
    except UserError as error:
        shutil.rmtree(folder, ignore_errors=True)
        sys.stdout.write(refusal_text(error))
        return REFUSED
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        if error.errno == errno.ENOSPC:
            return DISK_FULL
        raise
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    sys.stdout.write(f"Unpacked {contents.count} files and folders, {contents.bytes / (1 << 20):.1f} MiB")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
