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


async def list_files(repo: Repo) -> ArchiveFiles:
    """Return the files of `repo`. Raises UserError."""
    from . import swh

    if repo.ref.provider == "swh":
        return await swh.list_files(repo)
    raise NotImplementedError(repo.ref.provider)
