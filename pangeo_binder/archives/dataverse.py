"""Dataverse: the newest version of a dataset, and its files. Used by the binder and in builders.

API: https://guides.dataverse.org/en/latest/api/native-api.html and .../api/dataaccess.html
"""

from __future__ import annotations

import re
from typing import Any, Final
from urllib.parse import quote, urlsplit

from ..errors import HostUnavailable, RepoNotFound
from ..model import Repo
from .api import Api, Asker, ask_once, whole
from .base import ArchiveFile, ArchiveFiles, trusted_server

PERSISTENT_ID: Final = re.compile(r"(?:doi|hdl|ark|perma):[\w.;:()/+~-]{1,200}", re.ASCII)

_DATAVERSE: Final = "Dataverse"
_CHECKSUMS: Final = {"MD5": "md5", "SHA-1": "sha1", "SHA-256": "sha256", "SHA-512": "sha512"}


def files_url(host: str, dataset: str) -> str:
    """Return the address of the answer about a dataset; `host` is the address of an installation."""
    return f"{host}/api/datasets/:persistentId?persistentId={quote(dataset, safe='/:')}"


async def find_dataset(host: str, persistent_id: str, own: bool, asker: Asker = ask_once) -> tuple[str, str]:
    """Return a dataset's id and its revision; for the id of a file, those of its dataset.

    `own`: whether the operator named the host, which then may have a private address. Raises RepoNotFound, HostBusy or
    HostUnavailable.
    """
    api = Api(_DATAVERSE, host if own else "", asker)
    try:
        return persistent_id, await _revision(api, host, persistent_id)
    except RepoNotFound as error:
        url = f"{host}/api/files/:persistentId?persistentId={quote(persistent_id, safe='/:')}"
        try:
            answer = await api.read(f"{url}&returnDatasetVersion=true")
            with api.documented():
                dataset = str(answer["data"]["datasetVersion"]["datasetPersistentId"])
            if not PERSISTENT_ID.fullmatch(dataset):
                raise api.undocumented()
        except (RepoNotFound, HostUnavailable):
            raise error from None
        return dataset, await _revision(api, host, dataset)


async def list_files(repo: Repo) -> ArchiveFiles:
    """Return the files of `repo`. Raises UserError."""
    api = Api(_DATAVERSE, trusted_server(repo))
    answer = await api.read(repo.files_url)
    parts = urlsplit(repo.files_url)
    host = f"{parts.scheme}://{parts.netloc}{parts.path.partition('/api/datasets/')[0]}"
    with api.documented():
        version = answer["data"]["latestVersion"]
        if not repo.revision.endswith(f".{_version(version)}"):
            raise HostUnavailable("This dataset has a newer version now.", "Launch it again.")
        return ArchiveFiles(tuple(_file(host, each) for each in version["files"]), unpack=False)


async def _revision(api: Api, host: str, dataset: str) -> str:
    answer = await api.read(files_url(host, dataset))
    with api.documented():
        return f"{re.sub('[^A-Za-z0-9.:/_-]', '-', dataset)}.{_version(answer['data']['latestVersion'])}"


def _version(version: dict[str, Any]) -> str:
    return f"v{whole(version['versionNumber'])}.{whole(version['versionMinorNumber'])}"


def _file(host: str, each: dict[str, Any]) -> ArchiveFile:
    """Return a file as it was uploaded; of a table that was converted, only the converted file's size is known."""
    data = each["dataFile"]
    url = f"{host}/api/access/datafile/{int(data['id'])}?format=original"
    original = data.get("originalFileName")
    path = "/".join(filter(None, (each.get("directoryLabel"), original or each["label"])))
    if original:
        return ArchiveFile(path, url, None, "")
    return ArchiveFile(path, url, int(data["filesize"]), _checksum(data))


def _checksum(data: dict[str, Any]) -> str:
    checksum = data.get("checksum") or {"type": "MD5", "value": data.get("md5")}
    kind = _CHECKSUMS.get(checksum["type"], "")
    return f"{kind}:{checksum['value']}" if kind and checksum["value"] else ""
