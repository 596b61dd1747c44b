"""Branches of ordinary repositories of this machine are read from their files, and all else by git."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from urllib.parse import quote

import pytest

from pangeo_binder.errors import RepoNotFound
from pangeo_binder.model import Repo
from pangeo_binder.repos.branches import Branches
from pangeo_binder.repos.git import GitProvider
from tests.repos.gitrepo import git


async def resolve(url: Path | str, ref: str) -> Repo:
    provider = GitProvider(allow_local=True)
    return await provider.resolve(provider.parse(f"{quote(str(url), safe='')}/{ref}"))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("bare", [False, True])
async def test_a_branch_is_read_without_git(repository, tmp_path, request, packed, bare):
    if packed:
        git("pack-refs", "--all", cwd=repository)
        git("commit", "-q", "--allow-empty", "-m", "newer than what is packed", cwd=repository)
    if bare:
        git("clone", "-q", "--mirror", str(repository), str(tmp_path / "bare"), cwd=tmp_path)
        repository = tmp_path / "bare"
    wanted = {ref: git("rev-parse", ref, cwd=repository) for ref in ("HEAD", "main", "refs/heads/dev", "feature/sea")}
    git_log = request.getfixturevalue("git_log")
    for ref, commit in wanted.items():
        for url in (repository, f"file://{repository}"):
            assert (await resolve(url, ref)).revision == commit, ref
    assert git_log() == []


async def test_a_detached_head_is_read_without_git(repository, request):
    git("checkout", "-q", "--detach", "v1", cwd=repository)
    commit = git("rev-parse", "HEAD", cwd=repository)
    git_log = request.getfixturevalue("git_log")
    assert (await resolve(repository, "HEAD")).revision == commit
    assert git_log() == []


def _hide(repository: Path) -> None:
    git("config", "uploadpack.hideRefs", "refs/heads/dev", cwd=repository)


def _include(repository: Path) -> None:
    (repository / "more").write_text("[transfer]\nhideRefs = refs/heads/dev\n")
    git("config", "include.path", str(repository / "more"), cwd=repository)


def _alias(repository: Path) -> None:
    git("symbolic-ref", "refs/heads/main", "refs/heads/dev", cwd=repository)


def _link(repository: Path) -> None:
    (repository / ".git").rename(repository / "elsewhere")
    (repository / ".git").symlink_to("elsewhere")


def _gitfile(repository: Path) -> None:
    (repository / ".git").rename(repository / "elsewhere")
    (repository / ".git").write_text("gitdir: elsewhere\n")


def _outside(repository: Path) -> None:
    """A branch is a link to a file outside of the repository."""
    branch, outside = repository / ".git/refs/heads/main", repository / "outside"
    branch.rename(outside)
    branch.symlink_to(outside)


def _extension(repository: Path) -> None:
    git("config", "core.repositoryFormatVersion", "1", cwd=repository)
    git("config", "extensions.preciousObjects", "true", cwd=repository)


@pytest.mark.parametrize("change", [_hide, _include, _alias, _link, _gitfile, _outside, _extension])
async def test_git_reads_what_is_unusual(repository, request, change):
    change(repository)
    commit = git("rev-parse", "main", cwd=repository)
    git_log = request.getfixturevalue("git_log")
    assert (await resolve(repository, "main")).revision == commit
    assert any("upload-pack" in each for each in git_log())


async def test_git_reads_linked_worktrees(repository, tmp_path, request):
    git("worktree", "add", "-q", str(tmp_path / "linked"), "dev", cwd=repository)
    commit = git("rev-parse", "dev", cwd=repository)
    git_log = request.getfixturevalue("git_log")
    for path in (tmp_path / "linked", repository / ".git/worktrees/linked"):
        assert (await resolve(path, "HEAD")).revision == commit
    assert len(git_log()) == 2


async def test_git_refuses_a_folder_of_another_user(repository):
    if os.geteuid():
        pytest.skip("only root can give a folder away")
    assert (await resolve(repository, "main")).revision
    os.chown(repository / ".git", 65534, -1)
    with pytest.raises(RepoNotFound):
        await resolve(repository, "main")


class _Stuck(Branches):
    """A reader whose folder does not answer."""

    def __init__(self) -> None:
        super().__init__()
        self.answers, self.reads = threading.Event(), 0

    def read(self, folder: Path, name: str) -> str | None:
        self.reads += 1
        self.answers.wait()
        return super().read(folder, name)


async def test_a_folder_that_does_not_answer_holds_up_nobody(repository):
    branches = _Stuck()
    try:
        assert await branches.find(str(repository), "HEAD") is None
        assert await branches.find(str(repository), "HEAD") is None
        assert branches.reads == 1 and branches._asked.empty()
    finally:
        branches.answers.set()


def test_a_folder_that_does_not_answer_lets_the_process_end(repository):
    code = f"""
import asyncio, threading
from pangeo_binder.repos.branches import Branches
class Stuck(Branches):
    def read(self, folder, name):
        threading.Event().wait()
print(asyncio.run(Stuck().find({str(repository)!r}, "HEAD")))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "None\n"


def test_a_pipe_in_place_of_a_branch_is_not_waited_for(repository):
    (repository / ".git/refs/heads/main").unlink()
    os.mkfifo(repository / ".git/refs/heads/main")
    with pytest.raises(ValueError, match="no plain file"):
        Branches().read(repository, "refs/heads/main")
