"""Test links to Software Heritage against a server that answers as its API does.

Answers: https://archive.softwareheritage.org/api/1/ and https://docs.softwareheritage.org/devel/swh-vault/api.html
"""

from __future__ import annotations

import json
import re
import tarfile
import time
from io import BytesIO
from pathlib import Path

import pytest

from pangeo_binder.addresses import make_rules
from pangeo_binder.archives import swh
from pangeo_binder.builders.checkout import check_out
from pangeo_binder.errors import HostBusy, HostUnavailable, RefNotFound, RepoNotFound, UserError
from pangeo_binder.git import GitAccess
from pangeo_binder.model import FetchKind, Repo
from pangeo_binder.repos.swh import SwhProvider
from tests.contracts.archive import ArchiveContract
from tests.contracts.provider import SECRET, Provided
from tests.repos.fileserver import FileServer, file_server

__all__ = ["file_server"]

DIR, REV, REL, SNP, EMPTY, FILE = (letter * 40 for letter in "abcdef")
SWHID = f"swh:1:dir:{DIR}"
VAULT = f"/api/1/vault/flat/{SWHID}/"


def tarball() -> bytes:
    """Return a directory's tarball as the vault makes it: all is in a folder with the directory's identifier."""
    made = BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as archive:
        for name, content in (("requirements.txt", b""), ("notebook.ipynb", b"{}")):
            info = tarfile.TarInfo(f"{SWHID}/{name}")
            info.size = len(content)
            archive.addfile(info, BytesIO(content))
    return made.getvalue()


class Archive:
    """The stand-in."""

    def __init__(self, server: FileServer) -> None:
        self.server = server
        self.provider = SwhProvider(server.url)
        self.say(f"revision/{REV}/", {"directory": DIR, "message": "x"})
        self.say(f"release/{REL}/", {"target": REV, "target_type": "revision"})
        self.say(f"snapshot/{SNP}/?{self.branch('HEAD')}", self.branches("HEAD", "alias", "refs/heads/main"))
        self.say(f"snapshot/{SNP}/?{self.branch('refs/heads/main')}", self.branches("refs/heads/main", "release", REL))
        self.say(f"snapshot/{EMPTY}/?{self.branch('HEAD')}", {"branches": {}})
        self.say(f"release/{FILE}/", {"target": FILE, "target_type": "content"})
        self.say("known/", {SWHID: {"known": True}})
        self.say(f"vault/flat/{SWHID}/", {"status": "done", "fetch_url": f"{VAULT}raw/"})
        server.files[f"{VAULT}raw/"] = tarball()

    @staticmethod
    def branch(name: str) -> str:
        return f"branches_count=1&branches_from={name}"

    @staticmethod
    def branches(name: str, kind: str, target: str) -> dict[str, object]:
        return {"branches": {name: {"target": target, "target_type": kind}}}

    def say(self, path: str, answer: object) -> None:
        self.server.files[f"/api/1/{path}"] = json.dumps(answer).encode()

    async def repo(self, spec: str) -> Repo:
        return await self.provider.resolve(self.provider.parse(spec))


@pytest.fixture
def archive(file_server: FileServer) -> Archive:
    return Archive(file_server)


class TestSwhProvider(ArchiveContract):
    """Directories, revisions, releases and snapshots of Software Heritage."""

    @pytest.fixture
    def provided(self, archive: Archive) -> Provided:
        return Provided(
            provider=archive.provider,
            typed=f"{archive.server.url}/{SWHID};origin=https://x.org/y",
            own=(SWHID, f"swh:1:rev:{REV}", f"swh:1:rel:{REL}", f"swh:1:snp:{SNP}", f"{SWHID};origin=https://x.org/y"),
            foreign=(),
            bad=(
                *("swh", "swh:1:dir:", f"swh:2:dir:{DIR}", f"swh:1:cnt:{DIR}", f"swh:1:ori:{DIR}", f"swh:1:dir:{DIR}a"),
                *(f"swh:1:dir:{DIR}/x", f"..%2Fswh:1:dir:{DIR}", f"swh:1:dir:{DIR.upper()}", f"x;swh:1:dir:{DIR}"),
            ),
            secret=(f"{SWHID};origin=https://me:{SECRET}@x.org/y",),
            unknown_ref="",
            unknown_repository=f"swh:1:dir:{REV}",
            revision=f"swh:1:dir:{DIR}",
        )


async def test_a_repo_names_the_vaults_address_for_the_builder(archive: Archive) -> None:
    repo = await archive.repo(f"swh:1:rev:{REV};origin=https://x.org/y;path=/a")
    assert (repo.fetch, repo.revision) == (FetchKind.ARCHIVE, SWHID)
    assert repo.files_url == f"{archive.server.url}{VAULT}"
    assert repo.ref.url == archive.provider.browser_url(repo) == f"{archive.server.url}/swh:1:rev:{REV}"


@pytest.mark.parametrize(
    ("swhid", "error"),
    [
        (f"swh:1:snp:{EMPTY}", RefNotFound),
        (f"swh:1:rel:{FILE}", RefNotFound),
        (f"swh:1:rev:{FILE}", RepoNotFound),
        (f"swh:1:snp:{FILE}", RepoNotFound),
    ],
)
async def test_what_leads_to_no_directory_is_refused(archive: Archive, swhid: str, error: type[UserError]) -> None:
    with pytest.raises(error) as refused:
        await archive.repo(swhid)
    assert refused.value.hint


@pytest.mark.parametrize(
    ("answer", "statuses", "error"),
    [
        ({"directory": "x"}, [], HostUnavailable),
        ([], [], HostUnavailable),
        ({"directory": "x" * (1 << 20)}, [], HostUnavailable),
        ({}, [429], HostBusy),
        ({}, [503] * 3, HostUnavailable),
    ],
)
async def test_bad_answers_are_one_sentence(
    archive: Archive, answer: object, statuses: list[int], error: type[UserError]
) -> None:
    archive.say(f"revision/{REV}/", answer)
    archive.server.statuses[f"/api/1/revision/{REV}/"] = statuses
    with pytest.raises(error, match="Software Heritage"):
        await archive.repo(f"swh:1:rev:{REV}")


async def test_releases_that_name_one_another_end(archive: Archive) -> None:
    archive.say(f"release/{REL}/", {"target": REL, "target_type": "release"})
    with pytest.raises(HostUnavailable, match="did not answer as documented"):
        await archive.repo(f"swh:1:rel:{REL}")


@pytest.mark.processes
async def test_the_files_are_cooked_downloaded_and_unpacked(archive: Archive, tmp_path: Path) -> None:
    archive.server.moved[f"{VAULT}raw/"] = "/store/1"
    archive.server.files["/store/1"] = tarball()
    repo = await archive.repo(SWHID)
    into = tmp_path / "checkout"
    log = [
        line
        async for line in check_out(repo, into, GitAccess(addresses=make_rules(["127.0.0.1"])), time.monotonic() + 60)
    ]
    assert sorted(path.name for path in into.iterdir()) == ["notebook.ipynb", "requirements.txt"]
    assert f"POST {VAULT}" in archive.server.asked
    assert any(re.fullmatch("Unpacked 3 files and folders, .*", each) for each in log)


async def test_the_vault_is_asked_until_it_is_done(archive: Archive) -> None:
    repo = await archive.repo(SWHID)
    answers = [{"status": "new"}, {"status": "pending"}]

    class Cooking(dict[str, bytes]):
        """Answers of a vault that needs some time."""

        def get(self, path: str, default: bytes | None = None) -> bytes | None:
            return json.dumps(answers.pop(0)).encode() if path == VAULT and answers else super().get(path, default)

    archive.server.files = Cooking(archive.server.files)
    listed = await swh.list_files(repo, poll_seconds=0)
    assert listed.unpack and [each.url for each in listed.files] == [f"{archive.server.url}{VAULT}raw/"]
    assert [each.partition(" ")[0] for each in archive.server.asked if VAULT in each] == ["POST", "GET", "GET"]


@pytest.mark.parametrize("answer", [{"status": "failed", "progress_message": "secret"}, {}, {"status": ["done"]}])
async def test_a_vault_that_fails_is_one_sentence(archive: Archive, answer: object) -> None:
    archive.say(f"vault/flat/{SWHID}/", answer)
    with pytest.raises(HostUnavailable, match="could not prepare the files") as refused:
        await swh.list_files(await archive.repo(SWHID))
    assert "secret" not in str(refused.value)
