"""Test that a checkout fetches exactly one commit, from every kind of server."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from pangeo_binder.builders.checkout import check_out
from pangeo_binder.command import CommandTimedOut
from pangeo_binder.errors import BuildFailed, RefNotFound, RepoNotFound
from pangeo_binder.git import GitAccess
from pangeo_binder.model import Repo, RepoRef
from tests.repos.gitrepo import git, make_repository

NONE = "0123456789abcdef0123456789abcdef01234567"


async def fetch(url: object, commit: str, into: Path, access: GitAccess | None = None, seconds: float = 60) -> str:
    repo = Repo(RepoRef("git", str(url), "main"), commit)
    deadline = time.monotonic() + seconds
    return "\n".join([line async for line in check_out(repo, into, access or GitAccess(True), deadline)])


@pytest.fixture
def sea(tmp_path: Path) -> Path:
    path = make_repository(tmp_path / "sea", {"a.txt": "old\n"})
    (path / "a.txt").write_text("new\n")
    git("commit", "-q", "-a", "-m", "second", cwd=path)
    return path


@pytest.mark.parametrize(("rev", "text"), [("HEAD", "new\n"), ("HEAD~1", "old\n")])
async def test_fetches_only_one_commit(sea, tmp_path, rev, text):
    into = tmp_path / "into"
    await fetch(f"file://{sea}", git("rev-parse", rev, cwd=sea), into)
    assert (into / "a.txt").read_text() == text
    assert git("rev-list", "--count", "HEAD", cwd=into) == "1"
    assert git("remote", "get-url", "origin", cwd=into) == f"file://{sea}"


async def test_fetches_over_http(sea, git_server, tmp_path):
    await fetch(f"{git_server}/git/sea", git("rev-parse", "HEAD~1", cwd=sea), tmp_path / "into", GitAccess())
    assert (tmp_path / "into" / "a.txt").read_text() == "old\n"


async def test_the_error_names_a_commit_that_does_not_exist(sea, tmp_path):
    with pytest.raises(RefNotFound, match=NONE):
        await fetch(sea, NONE, tmp_path / "into")


async def test_the_error_reports_a_repository_that_does_not_exist(tmp_path):
    with pytest.raises(RepoNotFound, match="no git repository"):
        await fetch(tmp_path / "none", NONE, tmp_path / "into")


async def test_a_local_path_is_read_only_where_allowed(sea, tmp_path):
    with pytest.raises(RepoNotFound):
        await fetch(sea, git("rev-parse", "HEAD", cwd=sea), tmp_path / "into", GitAccess(allow_local=False))


async def test_a_fetch_ends_at_its_deadline(sea, tmp_path):
    with pytest.raises(CommandTimedOut):
        await fetch(sea, NONE, tmp_path / "into", seconds=0)


def with_submodule(path: Path, url: str) -> str:
    repository = make_repository(path, {"b.txt": "b\n"})
    git("-c", "protocol.file.allow=always", "submodule", "add", "-q", url, "sub", cwd=repository)
    git("commit", "-q", "-a", "-m", "submodule", cwd=repository)
    return git("rev-parse", "HEAD", cwd=repository)


async def test_fetches_submodules(sea, tmp_path):
    commit = with_submodule(tmp_path / "outer", str(sea))
    await fetch(tmp_path / "outer", commit, tmp_path / "into")
    assert (tmp_path / "into" / "sub" / "a.txt").read_text() == "new\n"


async def test_a_submodule_cannot_name_this_machines_files(sea, git_server, tmp_path):
    commit = with_submodule(tmp_path / "outer", str(sea))
    with pytest.raises(BuildFailed, match="a URL that this binder does not allow"):
        await fetch(f"{git_server}/git/outer", commit, tmp_path / "into", GitAccess())
