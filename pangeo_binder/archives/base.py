"""The files of an archive's record, as its kind's public API lists them. Used by the binder and in build pods."""

from __future__ import annotations

from dataclasses import dataclass

from ..model import Repo


@dataclass(frozen=True, slots=True)
class ArchiveFile:
    """One file of a record."""

    path: str
    url: str
    size_bytes: int | None
    checksum: str
    """`md5:<hex>`, `sha1:<hex>`, `sha256:<hex>`, or empty if the archive does not say."""


@dataclass(frozen=True, slots=True)
class ArchiveFiles:
    """The files of a record."""

    files: tuple[ArchiveFile, ...]
    unpack: bool
    """Whether the record is one zip or tar whose contents are the repository."""


def is_one_zip(files: tuple[ArchiveFile, ...]) -> bool:
    """Return whether a record's files are one zip."""
    return len(files) == 1 and files[0].path.lower().endswith(".zip")


async def list_files(repo: Repo) -> ArchiveFiles:
    """Return the files of `repo`. Raises UserError."""
    from . import figshare, swh, zenodo

    readers = {"figshare": figshare.list_files, "swh": swh.list_files, "zenodo": zenodo.list_files}
    return await readers[repo.ref.provider](repo)
