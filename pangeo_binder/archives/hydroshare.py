"""HydroShare: when a resource was last changed, and its files. Used by the binder and in builders.

API: https://www.hydroshare.org/hsapi/
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import unquote, urljoin, urlsplit

from ..errors import RepoTooLarge
from ..model import Repo
from .api import Api, Asker, ask_once
from .base import ArchiveFile, ArchiveFiles

_HYDROSHARE: Final = "HydroShare"
_CONTENTS: Final = "/data/contents/"
_PAGES: Final = 100


def files_url(address: str, resource: str) -> str:
    """Return the address of the list of a resource's files; `address` is that of HydroShare's pages."""
    return f"{address}/hsapi/resource/{resource}/files/"


async def find_version(address: str, resource: str, asker: Asker = ask_once) -> str:
    """Return when a resource was last changed, in seconds of the epoch.

    Raises RepoNotFound, HostBusy or HostUnavailable.
    """
    api = Api(_HYDROSHARE, address, asker)
    answer = await api.read(f"{address}/hsapi/resource/{resource}/scimeta/elements")
    with api.documented():
        changed = next((each["start_date"] for each in answer["dates"] if each["type"] == "modified"), "")
        return str(epoch(changed))


def epoch(text: str) -> int:
    """Return a time of an answer, which is in UTC, in seconds of the epoch. Raises ValueError."""
    time = datetime.fromisoformat(text)
    return int((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp())


async def list_files(repo: Repo) -> ArchiveFiles:
    """Return the files of `repo`. Raises UserError."""
    api = Api(_HYDROSHARE, repo.files_url)
    files: list[ArchiveFile] = []
    url = repo.files_url
    for _ in range(_PAGES):
        answer = await api.read(url)
        with api.documented():
            files += [_file(url, each) for each in answer["results"]]
            following = answer.get("next")
            if not following:
                return ArchiveFiles(tuple(files), unpack=False)
            own, page = urlsplit(repo.files_url), urlsplit(urljoin(url, following))
            if page[1:3] != own[1:3]:
                raise api.undocumented()
            url = own._replace(query=page.query).geturl()
    raise RepoTooLarge("HydroShare lists more files of this resource than this binder reads.", "Launch a smaller one.")


def _file(base: str, each: dict[str, Any]) -> ArchiveFile:
    url = urljoin(base, each["url"])
    path = unquote(urlsplit(url).path.partition(_CONTENTS)[2]) or str(each["file_name"])
    return ArchiveFile(path, url, int(each["size"]), "")
