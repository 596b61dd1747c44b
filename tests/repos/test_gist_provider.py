"""Test the provider of gists against servers that answer as GitHub does: git's, and its REST API."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from pangeo_binder.errors import BadLink, HostBusy, HostUnavailable, RepoNotFound
from pangeo_binder.repos.gist import GistProvider
from pangeo_binder.repos.git import GitProvider
from pangeo_binder.repos.github_api import GitHubApiSettings
from tests.contracts.provider import SECRET, Provided, ProviderContract
from tests.repos.gitrepo import Parent, make_parent
from tests.repos.test_git_provider import BAD_REFS, COMMIT

ID = "0123456789abcdef0123456789abcdef"
BAD = [
    "user",
    "user/",
    f"/{ID}",
    "user/xyz",
    f"../{ID}",
    f"-user/{ID}",
    f"user%2F..%2Fx/{ID}",
    "user/..",
    f"us%20er/{ID}",
]
TOKEN = "token-of-the-operator"


@dataclass
class GistApi:
    """A server that answers `GET /gists/<id>` as GitHub's API does, and counts its requests."""

    gist: dict[str, Any]
    address: str = ""
    seen: list[web.Request] = field(default_factory=list)
    answer: Callable[[], web.Response] | None = None
    """Answers instead of the gist."""

    async def handle(self, request: web.Request) -> web.Response:
        self.seen.append(request)
        if self.answer is not None:
            return self.answer()
        if request.match_info["id"] != ID:
            return web.json_response({"message": "Not Found"}, status=404)
        if request.headers.get("If-None-Match") == '"one"':
            return web.Response(status=304)
        return web.json_response(self.gist, headers={"ETag": '"one"'})


@pytest.fixture
def parent(tmp_path: Path) -> Parent:
    """The gist's repository, as GitHub's git server serves it."""
    folder = tmp_path / "user" / ID
    folder.parent.mkdir()
    return make_parent(folder)


@pytest.fixture
async def api(parent: Parent) -> AsyncIterator[GistApi]:
    """The API that knows the gist of `parent`."""
    history = [{"version": parent.tip}, {"version": parent.old}]
    served = GistApi({"owner": {"login": "User"}, "public": True, "history": history})
    app = web.Application()
    app.router.add_get("/gists/{id}", served.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    served.address = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield served
    await runner.cleanup()


@pytest.fixture
def provider(api: GistApi, git_server: str) -> GistProvider:
    """A provider that asks both servers."""
    return GistProvider(f"{git_server}/git", GitHubApiSettings(api.address))


@pytest.mark.processes
class TestGistProvider(ProviderContract):
    """Gists of GitHub."""

    @pytest.fixture
    def provided(self, parent: Parent, provider: GistProvider) -> Provided:
        def spec(ref: str) -> str:
            return f"user/{ID}/{ref}"

        return Provided(
            provider=provider,
            typed=f"user/{ID}",
            own=(*map(spec, ("HEAD", "main", "refs/tags/v1", parent.old)), f"user/{ID}"),
            foreign=tuple(map(spec, ("refs/pull/1/head", parent.foreign, COMMIT))),
            bad=(*BAD, *map(spec, BAD_REFS)),
            secret=(f"me:{SECRET}@user/{ID}", f"{SECRET}@user/{ID}"),
            unknown_ref=spec("mian"),
            unknown_repository=f"user/{ID[::-1]}",
            revision="[0-9a-f]{40}",
        )


async def resolve(provider: GistProvider, ref: str = "HEAD", user: str = "user") -> str:
    return (await provider.resolve(provider.parse(f"{user}/{ID}/{ref}"))).revision


@pytest.mark.processes
async def test_the_newest_revision_and_short_ones_come_from_the_api(provider: GistProvider, parent: Parent) -> None:
    assert await resolve(provider) == parent.tip
    assert await resolve(provider, parent.old[:7]) == parent.old


@pytest.mark.processes
async def test_the_owner_is_checked(provider: GistProvider) -> None:
    with pytest.raises(RepoNotFound, match="other has no gist"):
        await resolve(provider, user="other")


@pytest.mark.processes
async def test_secret_gists_are_refused_unless_allowed(api: GistApi, git_server: str, parent: Parent) -> None:
    api.gist["public"] = False
    settings = GitHubApiSettings(api.address)
    with pytest.raises(RepoNotFound, match="secret"):
        await resolve(GistProvider(f"{git_server}/git", settings))
    assert await resolve(GistProvider(f"{git_server}/git", settings, allow_secret=True)) == parent.tip


@pytest.mark.processes
async def test_answers_are_reused_and_asked_for_by_their_etag(
    provider: GistProvider, api: GistApi, parent: Parent, monkeypatch: pytest.MonkeyPatch
) -> None:
    await resolve(provider)
    await resolve(provider)
    assert len(api.seen) == 1
    monkeypatch.setattr("pangeo_binder.repos.github_api.time.monotonic", lambda: 1e9)
    assert await resolve(provider) == parent.tip
    assert api.seen[1].headers["If-None-Match"] == '"one"'


@pytest.mark.processes
async def test_the_token_is_read_from_its_file_and_only_then_sent(
    provider: GistProvider, api: GistApi, git_server: str, tmp_path: Path
) -> None:
    await resolve(provider)
    assert "Authorization" not in api.seen[0].headers
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    settings = GitHubApiSettings(api.address, file)
    await resolve(GistProvider(f"{git_server}/git", settings))
    assert api.seen[1].headers["Authorization"] == f"Bearer {TOKEN}"
    assert TOKEN not in repr(settings)
    file.unlink()
    await resolve(GistProvider(f"{git_server}/git", settings))
    assert "Authorization" not in api.seen[2].headers


LIMITED = [
    {"Retry-After": "120"},
    {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "9999999999"},
]


@pytest.mark.processes
@pytest.mark.parametrize("headers", LIMITED, ids=["retry", "reset"])
async def test_nothing_is_asked_while_the_rate_limit_is_used_up(
    provider: GistProvider, api: GistApi, headers: dict[str, str]
) -> None:
    api.answer = lambda: web.json_response({"message": "limited"}, status=403, headers=headers)
    for _ in range(3):
        with pytest.raises(HostBusy, match="Try again in"):
            await resolve(provider)
    assert len(api.seen) == 1


BROKEN = {
    "error": lambda: web.Response(status=502),
    "refused": lambda: web.json_response({"message": "Bad credentials"}, status=403),
    "malformed": lambda: web.Response(text="<html>", content_type="application/json"),
    "other": lambda: web.json_response({"owner": None, "history": []}),
    "list": lambda: web.json_response([]),
    "large": lambda: web.Response(body=b'"' + b"x" * (2 << 20) + b'"', content_type="application/json"),
    "redirected": lambda: web.Response(status=302, headers={"Location": "http://127.0.0.1:9/"}),
}


@pytest.mark.processes
@pytest.mark.parametrize("kind", BROKEN)
async def test_a_broken_api_is_a_sentence(provider: GistProvider, api: GistApi, kind: str) -> None:
    api.answer = BROKEN[kind]
    with pytest.raises(HostUnavailable, match="GitHub does not answer this binder"):
        await resolve(provider)
    assert len(api.seen) == 1


def test_a_gist_by_git_is_refused_because_rules_could_not_see_its_owner() -> None:
    for url in (
        "https://gist.github.com/trusted/0123",
        "git@gist.github.com:0123.git",
        "ssh://git@gist.github.com/0123",
    ):
        with pytest.raises(BadLink, match="link of its own"):
            GitProvider().parse(f"{url.replace('/', '%2F')}/HEAD")
