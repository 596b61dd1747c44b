"""Test that a renamed branch is followed where GitHub's API says so, with a real git server and a small API."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp import web

from pangeo_binder.errors import RefNotFound
from pangeo_binder.repos.github import GitHubProvider
from pangeo_binder.repos.github_api import GitHubApi, GitHubApiSettings
from tests.repos.gitrepo import git, make_repository

pytestmark = pytest.mark.processes


@dataclass
class BranchApi:
    """A server that answers as GitHub's API does for branches of `org/sea`, and counts its requests."""

    moved: dict[str, str] = field(default_factory=dict)
    """Path → the path to which it redirects."""
    status: int = 404
    address: str = ""
    seen: list[str] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.Response:
        path = request.raw_path.removeprefix("/")
        self.seen.append(path)
        if target := self.moved.get(path):
            where = target if "://" in target else f"{self.address}/{target}"
            return web.json_response({}, status=301, headers={"Location": where})
        return web.json_response({"message": "no"}, status=self.status, headers={"X-RateLimit-Remaining": "0"})


@pytest.fixture
async def api() -> AsyncIterator[BranchApi]:
    """The API."""
    served = BranchApi()
    app = web.Application()
    app.router.add_get("/{path:.*}", served.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    served.address = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"  # type: ignore[union-attr]
    yield served
    await runner.cleanup()


@pytest.fixture
def provider(api: BranchApi, git_server: str, tmp_path: Path) -> GitHubProvider:
    """GitHub with the repository `org/sea`, whose one branch is `trunk/new`."""
    folder = make_repository(tmp_path / "org" / "sea", {"readme.md": "sea\n"})
    git("branch", "-m", "trunk/new", cwd=folder)
    return GitHubProvider(f"{git_server}/git", api=GitHubApiSettings(api.address))


OLD, NEW = "repos/org/sea/branches/devel%2Fold", "repositories/1/branches/trunk%2Fnew"


@pytest.mark.parametrize("old", ["devel/old", "refs/heads/devel/old"])
async def test_a_renamed_branch_is_followed(provider: GitHubProvider, api: BranchApi, old: str) -> None:
    api.moved = {OLD: NEW}
    repo = await provider.resolve(provider.parse(f"org/sea/{old}"))
    assert repo.ref.ref == "trunk/new" and repo.revision
    await provider.resolve(provider.parse(f"org/sea/{old}"))
    assert api.seen == [OLD, NEW], "the answer is kept"


async def test_a_repository_may_be_renamed_too(provider: GitHubProvider, api: BranchApi) -> None:
    api.moved = {OLD: "repositories/1/branches/devel%2Fold", "repositories/1/branches/devel%2Fold": NEW}
    assert (await provider.resolve(provider.parse("org/sea/devel/old"))).ref.ref == "trunk/new"


@pytest.mark.parametrize(
    "target",
    [
        "https://evil.example/branches/trunk%2Fnew",
        "repositories/1/branches/--upload-pack=x",
        "repositories/1/branches/devel%2Fold",
        "repositories/1/branches/gone",
        "repositories/1",
    ],
)
async def test_other_redirects_are_not(provider: GitHubProvider, api: BranchApi, target: str) -> None:
    api.moved = {OLD: target}
    with pytest.raises(RefNotFound):
        await provider.resolve(provider.parse("org/sea/devel/old"))


@pytest.mark.parametrize("status", [404, 403, 500])
async def test_without_an_answer_the_branch_is_missing(provider: GitHubProvider, api: BranchApi, status: int) -> None:
    api.status = status
    with pytest.raises(RefNotFound, match="no branch or tag `devel/old`"):
        await provider.resolve(provider.parse("org/sea/devel/old"))


async def test_nothing_is_asked_about_refs_that_exist_or_are_no_branches(
    provider: GitHubProvider, api: BranchApi
) -> None:
    await provider.resolve(provider.parse("org/sea/trunk/new"))
    for ref in ("refs/tags/v1", "refs/pull/1/head"):
        with pytest.raises(RefNotFound):
            await provider.resolve(provider.parse(f"org/sea/{ref}"))
    assert api.seen == []


async def test_strangers_cannot_use_up_the_rate_limit_of_gists(api: BranchApi) -> None:
    asking = GitHubApi(GitHubApiSettings(api.address), dict)
    for number in range(100):
        assert await asking.location(f"repos/org/sea/branches/{number}") == ""
    assert len(api.seen) == 20
