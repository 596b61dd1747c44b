"""figshare: the versions of an article, and the files of one. Used by the binder and in builders.

API: https://docs.figshare.com/#public_article
"""

from __future__ import annotations

from typing import Any, Final

from ..model import Repo
from .api import Api, Asker, ask_once, whole
from .base import ArchiveFile, ArchiveFiles, is_one_zip

_FIGSHARE: Final = "Figshare"


def files_url(api: str, article: str, version: str) -> str:
    """Return the address of the answer about a version; `api` is the address of the API."""
    return f"{api}/articles/{article}/versions/{version}"


async def find_version(api: str, article: str, version: str = "", asker: Asker = ask_once) -> str:
    """Return the newest version of an article, or `version` if the article has it.

    Raises RepoNotFound, HostBusy or HostUnavailable.
    """
    client = Api(_FIGSHARE, api, asker)
    answer = await client.read(f"{api}/articles/{article}/versions")
    with client.documented():
        versions = [whole(each["version"]) for each in answer]
    if not versions or (version and int(version) not in versions):
        raise client.not_found()
    return version or str(max(versions))


async def list_files(repo: Repo) -> ArchiveFiles:
    """Return the files of `repo` that figshare itself holds. Raises UserError."""
    client = Api(_FIGSHARE, repo.files_url)
    answer = await client.read(repo.files_url)
    with client.documented():
        files = tuple(_file(each) for each in answer["files"] if not each.get("is_link_only"))
    return ArchiveFiles(files, is_one_zip(files))


def _file(each: dict[str, Any]) -> ArchiveFile:
    md5 = str(each.get("computed_md5") or "")
    return ArchiveFile(str(each["name"]), str(each["download_url"]), int(each["size"]), f"md5:{md5}" if md5 else "")
