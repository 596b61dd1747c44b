"""CKAN: when a dataset, or an activity of its history, was last changed, and its files.

Used by the binder and in builders. API: https://docs.ckan.org/en/latest/api/
"""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import quote, unquote, urljoin, urlsplit

from ..model import Repo
from .api import Api, Asker, ask_once
from .base import ArchiveFile, ArchiveFiles, trusted_server
from .hydroshare import epoch

_CKAN: Final = "The CKAN site"


def files_url(site: str, dataset: str, activity: str) -> str:
    """Return the address of the answer about a dataset, or about it at one activity; `site` is where CKAN is."""
    api = f"{site}/api/3/action"
    if activity:
        return f"{api}/activity_data_show?id={quote(activity, safe='')}&object_type=package"
    return f"{api}/package_show?id={quote(dataset, safe='')}"


async def find_version(site: str, dataset: str, activity: str, own: bool, asker: Asker = ask_once) -> str:
    """Return when the dataset, or it at the activity, was last changed, in seconds of the epoch.

    `own`: whether the operator named the host, which then may have a private address. Raises RepoNotFound, HostBusy or
    HostUnavailable.
    """
    api = Api(_CKAN, site if own else "", asker)
    answer = await api.read(files_url(site, dataset, activity))
    # CKAN shows an activity of any dataset, so the link's own might lend its address, and its rule, to another
    now = await api.read(files_url(site, dataset, "")) if activity else answer
    with api.documented():
        if _result(answer)["id"] != _result(now)["id"]:
            raise api.not_found()
        return str(epoch(_result(answer)["metadata_modified"]))


async def list_files(repo: Repo) -> ArchiveFiles:
    """Return the files of `repo`, also those that its site links to. Raises UserError."""
    api = Api(_CKAN, trusted_server(repo))
    answer = await api.read(repo.files_url)
    with api.documented():
        files: dict[str, ArchiveFile] = {}
        for each in _result(answer)["resources"]:
            if each.get("url"):
                name = _name(each, files)
                files[name.casefold()] = ArchiveFile(name, urljoin(repo.files_url, each["url"]), None, "")
        return ArchiveFiles(tuple(files.values()), unpack=False)


def _result(answer: dict[str, Any]) -> dict[str, Any]:
    """Return the dataset of an answer; of an activity CKAN 2.9 gives it below the object's type."""
    result = answer["result"]
    found: dict[str, Any] = result.get("package", result)
    return found


def _name(resource: dict[str, Any], taken: dict[str, ArchiveFile]) -> str:
    """Return a resource's file name, with its id if another file of the dataset has this name."""
    id_ = str(resource["id"])
    name = unquote(urlsplit(resource["url"]).path.rpartition("/")[2]).replace("/", "-") or id_
    return f"{id_}-{name}" if name.casefold() in taken else name
