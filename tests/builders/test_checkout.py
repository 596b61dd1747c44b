"""Test that a checkout fetches exactly one commit, from every kind of server."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from pangeo_binder.builders.checkout import CheckoutLimits, check_out
from pangeo_binder.command import CommandTimedOut
from pangeo_binder.errors import BuildFailed, RefNotFound, RepoNotFound
from pangeo_binder.git import GitAccess, https_url
from pangeo_binder.model import Repo, RepoRef
from tests.repos.gitrepo import git, make_parent, make_repository
from tests.repos.gitserver import ACCESS

pytestmark = pytest.mark.processes
NONE = "0123456789abcdef0123456789abcdef01234567"


async def fetch(
    url: object,
    commit: str,
    into: Path,
    access: GitAccess | None = None,
    seconds: float = 60,
    limits: CheckoutLimits | None = None,
    ref: str = "main",
) -> str:
    repo = Repo(RepoRef("git", str(url), ref), commit)
    deadline = time.monotonic() + seconds
    return "\n".join([line async for line in check_out(repo, into, access or GitAccess(True), deadline, limits)])


@pytest.fixture
def sea(tmp_path: Path) -> Path:
    path = make_repository(tmp_path / "sea", {"a.txt": "old\n"})
    (path / "a.txt").write_text("new\n")
    git("commit", "-q", "-a", "-m", "second", cwd=path)
    return path


@pytest.mark.parametrize(("rev", "text", "commits"), [("HEAD", "new\n", "2"), ("HEAD~1", "old\n", "1")])
async def test_a_checkout_is_a_clone_at_one_commit(sea, tmp_path, rev, text, commits):
    into = tmp_path / "into"
    await fetch(f"file://{sea}", git("rev-parse", rev, cwd=sea), into)
    assert (into / "a.txt").read_text() == text
    assert git("rev-list", "--count", "HEAD", cwd=into) == commits
    assert git("rev-list", "--count", "origin/main", cwd=into) == "2"
    assert git("remote", "get-url", "origin", cwd=into) == f"file://{sea}"


@pytest.mark.parametrize("ref", ["HEAD", "main", "refs/heads/main", "old", "v1.2"])
async def test_the_newest_commit_of_a_branch_is_on_that_branch(sea, tmp_path, ref):
    git("tag", "v1.2", cwd=sea)
    git("branch", "old", "HEAD~1", cwd=sea)
    into = tmp_path / "into"
    await fetch(f"file://{sea}", git("rev-parse", "main", cwd=sea), into, ref=ref)
    branch = "main" if "main" in ref or ref == "HEAD" else "HEAD"
    assert git("rev-parse", "--abbrev-ref", "HEAD", cwd=into) == branch
    if branch == "main":
        assert git("status", "-sb", cwd=into) == "## main...origin/main"


@pytest.mark.parametrize("filters", ["true", "false"])
async def test_a_clone_has_tags_and_fetches_the_contents_of_old_files_when_needed(sea, tmp_path, filters):
    git("config", "uploadpack.allowFilter", filters, cwd=sea)
    git("tag", "-a", "v1.2", "-m", "v1.2", "HEAD~1", cwd=sea)
    into, old = tmp_path / "into", git("rev-parse", "HEAD~1:a.txt", cwd=sea)
    await fetch(f"file://{sea}", git("rev-parse", "HEAD", cwd=sea), into)
    assert git("describe", cwd=into).startswith("v1.2-1-g")
    missing = git("rev-list", "--objects", "--missing=print", "--all", cwd=into)
    assert (f"?{old}" in missing) == (filters == "true")
    assert "+new" in git("log", "-p", cwd=into)


async def test_a_history_above_the_limit_leaves_one_commit_and_a_line_in_the_log(sea, git_server, tmp_path):
    git("tag", "v1.2", cwd=sea)
    (sea / "large").write_bytes(os.urandom(1 << 20))
    git("add", ".", cwd=sea)
    git("commit", "-q", "-m", "large", cwd=sea)
    git("rm", "-q", "large", cwd=sea)
    git("commit", "-q", "-m", "small", cwd=sea)
    into, commit = tmp_path / "into", git("rev-parse", "HEAD", cwd=sea)
    limits = CheckoutLimits(history_bytes=1 << 19)
    log = await fetch(f"{git_server}/git/sea", commit, into, ACCESS, limits=limits)
    assert "The history is larger than 0 MiB, so the clone has one commit and no tags" in log
    assert git("tag", cwd=into) == "" and git("rev-list", "--count", "HEAD", cwd=into) == "1"
    assert (into / "a.txt").read_text() == "new\n" and not list((into / ".git/objects/pack").glob("tmp_*"))
    git("config", "uploadpack.allowFilter", "true", cwd=sea)
    await fetch(f"{git_server}/git/sea", commit, tmp_path / "other", ACCESS, limits=limits)
    assert git("tag", cwd=tmp_path / "other") == "v1.2", "git omits the large file"


async def test_a_history_above_the_time_limit_leaves_one_commit(sea, tmp_path):
    limits = CheckoutLimits(history_seconds=0)
    log = await fetch(f"file://{sea}", git("rev-parse", "HEAD", cwd=sea), tmp_path / "into", limits=limits)
    assert "The history takes longer than 0 seconds to fetch" in log
    assert git("rev-list", "--count", "HEAD", cwd=tmp_path / "into") == "1"


async def test_a_commit_of_an_open_request_has_its_history_too(tmp_path):
    parent = make_parent(tmp_path / "parent")
    git("config", "uploadpack.hideRefs", "refs/pull", cwd=parent.path)
    into = tmp_path / "into"
    await fetch(f"file://{parent.path}", parent.foreign, into)
    assert git("rev-parse", "HEAD", cwd=into) == parent.foreign
    assert int(git("rev-list", "--count", "HEAD", cwd=into)) > 1


async def test_files_of_the_session_are_not_untracked_files(sea, tmp_path):
    into = tmp_path / "into"
    await fetch(f"file://{sea}", git("rev-parse", "HEAD", cwd=sea), into)
    for name in (".session/x", ".local/share/x", ".jupyter/x", ".bash_history", "mine/.local/x"):
        (into / name).parent.mkdir(parents=True, exist_ok=True)
        (into / name).touch()
    assert git("status", "--porcelain", cwd=into) == "?? mine/"


async def test_fetches_over_http(sea, git_server, tmp_path):
    await fetch(f"{git_server}/git/sea", git("rev-parse", "HEAD~1", cwd=sea), tmp_path / "into", ACCESS)
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


def with_submodule(path: Path, url: str, origin: str = "") -> str:
    repository = make_repository(path, {"b.txt": "b\n"})
    if origin:
        git("remote", "add", "origin", origin, cwd=repository)
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
        await fetch(f"{git_server}/git/outer", commit, tmp_path / "into", ACCESS)


async def test_an_ssh_url_of_a_submodule_is_fetched_by_https(sea, git_server, tmp_path):
    """A public binder has no ssh keys. No https server answers here, so the test sees only the URL."""
    with_submodule(tmp_path / "outer", str(sea))
    modules = (tmp_path / "outer" / ".gitmodules").read_text().replace(str(sea), "git@127.0.0.1:org/sea.git")
    (tmp_path / "outer" / ".gitmodules").write_text(modules)
    git("commit", "-q", "-a", "-m", "ssh", cwd=tmp_path / "outer")
    commit = git("rev-parse", "HEAD", cwd=tmp_path / "outer")
    with pytest.raises(BuildFailed, match="submodule `sub` could not be fetched"):
        await fetch(f"{git_server}/git/outer", commit, tmp_path / "into", ACCESS)
    assert git("config", "submodule.sub.url", cwd=tmp_path / "into") == "https://127.0.0.1/org/sea.git"


async def test_submodules_of_submodules_are_fetched(sea, git_server, tmp_path):
    with_submodule(tmp_path / "middle", f"{git_server}/git/sea")
    commit = with_submodule(tmp_path / "outer", "../middle", f"{git_server}/git/outer")
    await fetch(f"{git_server}/git/outer", commit, tmp_path / "into", ACCESS)
    assert (tmp_path / "into/sub/sub/a.txt").read_text() == "new\n"


@pytest.mark.parametrize(
    ("url", "https"),
    [
        ("git@github.com:org/x.git", "https://github.com/org/x.git"),
        ("ssh://git@ssh.github.com:443/org/x", "https://github.com/org/x"),
        ("ssh://example.org:2222/~me/x.git", "https://example.org/~me/x.git"),
        ("https://github.com/org/x", ""),
        ("../x", ""),
        ("/srv/a@b:c", ""),
        ("ext::sh -c x", ""),
    ],
)
def test_an_ssh_url_and_its_https_url(url, https):
    assert https_url(url) == https
