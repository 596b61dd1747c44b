"""Zenodo: the version of a record, and its files. Used by the binder and in builders.

API: https://developers.zenodo.org/#records and https://inveniordm.docs.cern.ch/reference/rest_api_drafts_records/
"""

from __future__ import annotations

from typing import Any, Final

from ..errors import RepoNotFound
from ..model import Repo
from .api import Api, Asker, ask_once, whole
from .base import ArchiveFile, ArchiveFiles, is_one_zip

_ZENODO: Final = "Zenodo"


def files_url(address: str, record: str) -> str:
    """Return the address of the answer about a record; `address` is that of Zenodo's pages."""
    return f"{address}/api/records/{record}"


async def find_record(address: str, record: str, asker: Asker = ask_once) -> str:
    """Return the id of a record; for the id of all versions ("concept"), that of the newest one.

    Raises RepoNotFound, HostBusy or HostUnavailable.
    """
    api, url = Api(_ZENODO, address, asker), files_url(address, record)
    try:
        answer = await api.read(url)
    except RepoNotFound as error:
        try:
            answer = await api.read(f"{url}/versions/latest")
        except RepoNotFound:
            raise error from None
    with api.documented():
        return str(whole(answer["id"]))


async def list_files(repo: Repo) -> ArchiveFiles:
    """Return the files of `repo`. Raises UserError."""
    api = Api(_ZENODO, repo.files_url)
    answer = await api.read(repo.files_url)
    with api.documented():
        if str(answer["id"]) != repo.revision:
            raise api.not_found()
        # a record whose files are restricted has none in its answer
        listed = answer.get("files") or ()
    if isinstance(listed, dict):  # InvenioRDM's own form, with the files in an answer of their own
        answer = await api.read(f"{repo.files_url}/files")
        with api.documented():
            listed = answer.get("entries") or ()
    with api.documented():
        files = tuple(_file(each) for each in listed)
    return ArchiveFiles(files, is_one_zip(files))


def _file(each: dict[str, Any]) -> ArchiveFile:
    url = each["links"].get("content") or each["links"]["self"]
    return ArchiveFile(str(each["key"]), str(url), int(each["size"]), str(each.get("checksum") or ""))
