"""Software Heritage: the directory that an identifier names, and the tarball of a directory.

Its vault makes ("cooks") the tarball when it is asked, which takes seconds to minutes. Used by the binder to resolve
and in builders to fetch. API: https://archive.softwareheritage.org/api/1/ and
https://docs.softwareheritage.org/devel/swh-vault/api.html
Identifiers: https://docs.softwareheritage.org/devel/swh-model/persistent-identifiers.html
"""

from __future__ import annotations

import asyncio
import re
from typing import Any, Final
from urllib.parse import urlencode, urljoin

from ..errors import BadLink, HostUnavailable, RefNotFound
from ..model import Repo
from .api import Api, Asker, ask_once
from .base import ArchiveFile, ArchiveFiles

SWHID: Final = re.compile(r"swh:1:(?P<kind>dir|rev|rel|snp):(?P<id>[0-9a-f]{40})")
"""The core of an identifier whose files can be launched."""

_STEPS: Final = 6
"""How many objects may lead to a directory: a snapshot, its HEAD, a branch, a release of a release, a revision."""
_POLL_SECONDS: Final = 5
_COOK_SECONDS: Final = 600
_NAMES: Final = {"directory": "dir", "revision": "rev", "release": "rel", "snapshot": "snp"}
_HOST: Final = "Software Heritage"
_LATER: Final = "Try again in some minutes."


async def find_directory(api: str, swhid: str, asker: Asker = ask_once) -> str:
    """Return the identifier of the directory that `swhid` leads to; `api` is the API's address and ends in a slash.

    Raises RepoNotFound, RefNotFound, BadLink, HostBusy or HostUnavailable.
    """
    client = _Client(api, asker)
    if (found := SWHID.fullmatch(swhid)) is None:
        raise BadLink("The link does not name files of Software Heritage.", "Use swh:1:dir:… or swh:1:rev:….")
    kind, id_ = found["kind"], found["id"]
    for _ in range(_STEPS):
        if kind == "dir":
            await client.check_known(f"swh:1:dir:{id_}")
            return f"swh:1:dir:{id_}"
        kind, id_ = await client.step(kind, id_)
    raise HostUnavailable(f"{_HOST} did not answer as documented.", "Name a directory (swh:1:dir:…).")


def files_url(api: str, directory: str) -> str:
    """Return the address of the tarball's cooking."""
    return f"{api}vault/flat/{directory}/"


async def list_files(repo: Repo, poll_seconds: float = _POLL_SECONDS) -> ArchiveFiles:
    """Have the tarball of `repo` cooked, and return it as the record's one file, to be unpacked.

    Raises RepoNotFound, HostBusy or HostUnavailable.
    """
    client = _Client(repo.files_url)
    try:
        async with asyncio.timeout(_COOK_SECONDS):
            answer = await client.ask("POST", "")
            while answer.get("status") in ("new", "pending"):
                await asyncio.sleep(poll_seconds)
                answer = await client.ask("GET", "")
    except TimeoutError:
        raise HostUnavailable(f"{_HOST} took too long to prepare the files.", _LATER) from None
    if answer.get("status") != "done":
        raise HostUnavailable(f"{_HOST} could not prepare the files.", _LATER)
    url = urljoin(repo.files_url, str(answer.get("fetch_url") or "raw/"))
    name = repo.revision.rpartition(":")[2]
    return ArchiveFiles((ArchiveFile(f"{name}.tar.gz", url, None, ""),), unpack=True)


class _Client:
    """A client of the API at one address."""

    def __init__(self, address: str, asker: Asker = ask_once) -> None:
        self._address = address
        self._api = Api(_HOST, address, asker)

    async def ask(self, method: str, path: str, **given: Any) -> dict[str, Any]:
        """Return an answer. Raises RepoNotFound, RepoTooLarge, HostBusy or HostUnavailable."""
        answer = await self._api.read(f"{self._address}{path}", method=method, **given)
        if not isinstance(answer, dict):
            raise self._api.undocumented()
        return answer

    async def check_known(self, swhid: str) -> None:
        """Check that the archive has an object. Raises RepoNotFound."""
        answer = await self.ask("POST", "known/", json=[swhid])
        known = answer.get(swhid)
        if not isinstance(known, dict) or known.get("known") is not True:
            raise self._api.not_found()

    async def step(self, kind: str, id_: str) -> tuple[str, str]:
        """Return the kind and id of the object that another one names."""
        if kind == "rev":
            return "dir", _id(await self.ask("GET", f"revision/{id_}/"), "directory")
        if kind == "rel":
            return _target(await self.ask("GET", f"release/{id_}/"))
        return await self._head(id_)

    async def _head(self, snapshot: str) -> tuple[str, str]:
        """Return what the default branch of a snapshot names. Raises RefNotFound."""
        branch = "HEAD"
        for _ in range(_STEPS):
            # part of the URL, because `params` would be added to a redirect's address again
            query = urlencode({"branches_count": "1", "branches_from": branch})
            branches = (await self.ask("GET", f"snapshot/{snapshot}/?{query}")).get("branches")
            found = branches.get(branch) if isinstance(branches, dict) else None
            if not isinstance(found, dict):
                break
            if found.get("target_type") != "alias":
                return _target(found)
            branch = str(found.get("target"))
        raise RefNotFound("This snapshot of Software Heritage has no default branch.", "Name a revision (swh:1:rev:…).")


def _id(answer: dict[str, Any], key: str) -> str:
    """Return an object's id in an answer. Raises HostUnavailable."""
    value = answer.get(key)
    if not isinstance(value, str) or not re.fullmatch("[0-9a-f]{40}", value):
        raise Api(_HOST, "").undocumented()
    return value


def _target(answer: dict[str, Any]) -> tuple[str, str]:
    """Return the kind and id of an answer's target. Raises HostUnavailable, or RefNotFound if it is one file."""
    type_ = answer.get("target_type")
    if not isinstance(type_, str):
        raise Api(_HOST, "").undocumented()
    if (kind := _NAMES.get(type_)) is None:
        raise RefNotFound("The link names one file of Software Heritage.", "Name a directory or a revision.")
    return kind, _id(answer, "target")
