"""Test that a commit is a repository's own only if it is on one of its branches or tags, whatever its host serves."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from urllib.parse import quote

import pytest

from pangeo_binder.builders.checkout import check_out
from pangeo_binder.errors import RepoNotFound
from pangeo_binder.git import GitAccess
from pangeo_binder.model import Repo, RepoRef
from pangeo_binder.repos.base import Provenance
from pangeo_binder.repos.git import GitProvider
from pangeo_binder.repos.history import Histories, HistoryLimits
from tests.repos.gitrepo import Parent, git, make_parent
from tests.repos.gitserver import ACCESS, LOOPBACK

UNKNOWN = "0123456789abcdef0123456789abcdef01234567"
OWN = Provenance()


@pytest.fixture
def parent(tmp_path: Path, request: pytest.FixtureRequest) -> Parent:
    return make_parent(tmp_path / "parent", getattr(request, "param", True))


both_kinds_of_host = pytest.mark.parametrize(
    "parent", [True, False], indirect=True, ids=["partial clone", "full clone"]
)


@pytest.fixture
def histories() -> Histories:
    return Histories(ACCESS)


@pytest.fixture
def url(git_server: str) -> str:
    return f"{git_server}/git/parent"


async def provenance(url: str, ref: str) -> Provenance:
    """Return the provenance of the link to `ref`, from a new provider."""
    provider = GitProvider(addresses=LOOPBACK)
    repo = await provider.resolve(provider.parse(f"{quote(url, safe='')}/{ref}"))
    return provider.known_provenance(repo) or await provider.find_provenance(repo)


@both_kinds_of_host
async def test_a_host_serves_a_forks_commit_at_its_parents_url(parent: Parent, url: str, tmp_path: Path) -> None:
    repo = Repo(RepoRef("git", url, parent.foreign), parent.foreign)
    assert [line async for line in check_out(repo, tmp_path / "into", ACCESS, time.monotonic() + 60)]
    assert (tmp_path / "into" / "miner").exists(), "without this behaviour the check would be unnecessary"


@both_kinds_of_host
async def test_commits_on_a_branch_or_tag_are_own(parent: Parent, url: str) -> None:
    for ref in ("HEAD", "main", "v1", "refs/heads/main", "refs/tags/v1", "refs/pull/2/head"):
        assert await provenance(url, ref) == OWN, ref
    for commit in (parent.tip, parent.old, parent.tagged, parent.old.upper()):
        assert await provenance(url, commit) == OWN, commit


@pytest.mark.processes
@pytest.mark.parametrize("what", ["a fork's commit", "an open request", "nothing there"])
async def test_other_commits_are_foreign(parent: Parent, url: str, what: str) -> None:
    refs = {"a fork's commit": parent.foreign, "an open request": "refs/pull/1/head", "nothing there": UNKNOWN}
    assert "on no branch or tag of the repository" in (await provenance(url, refs[what])).foreign_reason


@pytest.mark.processes
async def test_a_local_repository_has_its_own_commits(parent: Parent) -> None:
    histories = Histories(GitAccess(allow_local=True))
    for url in (str(parent.path), parent.path.as_uri()):
        assert await histories.find(url, parent.old) == OWN
        assert (await histories.find(url, parent.foreign)).foreign_reason
    with pytest.raises(RepoNotFound):
        await Histories(ACCESS).find(str(parent.path), parent.old)


async def test_an_empty_repository_has_no_own_commits(git_server: str, tmp_path: Path, histories: Histories) -> None:
    git("init", "-q", "--bare", "empty", cwd=tmp_path)
    assert (await histories.find(f"{git_server}/git/empty", UNKNOWN)).foreign_reason


async def test_a_branch_or_tag_needs_no_further_request(parent: Parent, url: str) -> None:
    provider = GitProvider(addresses=LOOPBACK)
    for ref in ("HEAD", "main", "v1"):
        repo = await provider.resolve(provider.parse(f"{quote(url, safe='')}/{ref}"))
        assert provider.known_provenance(repo) == OWN
    for ref in (parent.old, "refs/pull/1/head"):
        repo = await provider.resolve(provider.parse(f"{quote(url, safe='')}/{ref}"))
        assert provider.known_provenance(repo) is None


@both_kinds_of_host
async def test_a_found_history_is_not_fetched_again(parent: Parent, url: str, histories: Histories) -> None:
    await asyncio.gather(*(histories.find(url, commit) for commit in (parent.old, parent.tip, parent.foreign)))
    git("update-ref", "-d", "refs/heads/main", cwd=parent.path)
    for commit in (parent.old, parent.tip, parent.tagged):
        assert histories.known(url, commit) == OWN
    assert histories.known(url, parent.foreign) is None


async def test_a_pull_request_is_own_after_its_merge(parent: Parent, url: str, histories: Histories) -> None:
    assert (await histories.find(url, parent.foreign)).foreign_reason
    git("update-ref", "refs/heads/main", parent.foreign, cwd=parent.path)
    assert await histories.find(url, parent.foreign) == OWN


async def test_a_found_history_expires(parent: Parent, url: str) -> None:
    histories = Histories(ACCESS, HistoryLimits(own_seconds=0))
    assert await histories.find(url, parent.old) == OWN
    git("update-ref", "-d", "refs/heads/main", cwd=parent.path)
    git("update-ref", "-d", "refs/tags/v1", cwd=parent.path)
    assert (await histories.find(url, parent.old)).foreign_reason


@pytest.mark.parametrize(
    "limits",
    [HistoryLimits(pack_bytes=512), HistoryLimits(fetch_seconds=0), HistoryLimits(refs=1), HistoryLimits(commits=1)],
    ids=["bytes", "seconds", "refs", "commits"],
)
async def test_a_history_over_a_limit_makes_commits_foreign(parent: Parent, url: str, limits: HistoryLimits) -> None:
    histories = Histories(ACCESS, limits)
    for commit in (parent.old, parent.foreign):
        assert "too large" in (await histories.find(url, commit)).foreign_reason
    assert await histories.find(url, parent.tip) == OWN, "the commit of a branch needs no history"


@pytest.mark.parametrize("limits", [HistoryLimits(), HistoryLimits(pack_bytes=512)], ids=["found", "too large"])
async def test_deletes_the_fetched_files(
    parent: Parent, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limits: HistoryLimits
) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    await Histories(ACCESS, limits).find(url, parent.old)
    assert list((tmp_path / "tmp").iterdir()) == []


async def test_reports_a_host_that_fails(parent: Parent, url: str, histories: Histories) -> None:
    (parent.path / "objects" / parent.old[:2] / parent.old[2:]).unlink()
    with pytest.raises(RepoNotFound, match="did not send the history") as caught:
        await histories.find(url, parent.old)
    assert "name a branch or tag" in caught.value.hint


async def test_provenance_has_the_url_after_redirects(parent: Parent, git_server: str) -> None:
    port = git_server.rpartition(":")[2]
    moved = f"{git_server}/to/localhost/git/parent"
    for ref in ("main", parent.tip, parent.old):
        assert await provenance(moved, ref) == Provenance(served=f"http://localhost:{port}/git/parent/"), ref
    assert (await provenance(moved, parent.foreign)).foreign_reason
