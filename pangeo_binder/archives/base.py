"""The files of an archive's record, as its kind's public API lists them. Used by the binder and in build pods."""

from __future__ import annotations

from dataclasses import dataclass

from ..model import Repo

OWN_HOST = "#own"
"""The fragment, which is never sent, of a `Repo.files_url` whose host the operator named."""
_ANY_HOST = ("ckan", "dataverse")
"""Kinds whose hosts are no settings: links name them, or a list of everybody's installations."""


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


def trusted_server(repo: Repo) -> str:
    """Return the URL whose host may have a private address, because the operator named it; empty if none may."""
    if repo.ref.provider in _ANY_HOST and not repo.files_url.endswith(OWN_HOST):
        return ""
    return repo.files_url


def is_one_zip(files: tuple[ArchiveFile, ...]) -> bool:
    """Return whether a record's files are one zip."""
    return len(files) == 1 and files[0].path.lower().endswith(".zip")


async def list_files(repo: Repo) -> ArchiveFiles:
    """Return the files of `repo`. Raises UserError."""
    from . import ckan, dataverse, figshare, hydroshare, swh, zenodo

    readers = {
        "ckan": ckan.list_files,
        "dataverse": dataverse.list_files,
        "figshare": figshare.list_files,
        "hydroshare": hydroshare.list_files,
        "swh": swh.list_files,
        "zenodo": zenodo.list_files,
    }
    return await readers[repo.ref.provider](repo)
