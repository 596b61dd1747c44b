"""Test that a short commit id is looked up where its host can do that, with a real git server and small APIs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from pangeo_binder.errors import RefNotFound
from pangeo_binder.repos.base import Provenance, Provider
from pangeo_binder.repos.git import GitProvider
from pangeo_binder.repos.github import GitHubProvider
from pangeo_binder.repos.github_api import GitHubApi, GitHubApiSettings
from pangeo_binder.repos.gitlab import GitLabApi, GitLabProvider
from tests.repos.gitrepo import Parent, git, make_parent, make_repository
from tests.repos.gitserver import LOOPBACK

pytestmark = pytest.mark.processes

TOKEN = "token-of-the-operator"
Answer = Callable[[str], web.Response]


@dataclass
class CommitApi:
    """A server that answers as the APIs of GitHub and GitLab do for the commits of `org/sea`."""

    folder: Path
    """The repository."""
    address: str = ""
    key: str = "sha"
    """The key of a commit's id; of GitLab it is `id`."""
    answer: Answer | None = None
    """Answers instead, for the short id."""
    moved: dict[str, str] = field(default_factory=dict)
    """Path → the path to which it redirects."""
    seen: list[web.Request] = field(default_factory=list)

    @property
    def paths(self) -> list[str]:
        """The paths of all requests."""
        return [request.raw_path for request in self.seen]

    async def handle(self, request: web.Request) -> web.Response:
        self.seen.append(request)
        short = request.path.rpartition("/")[2]
        if target := self.moved.get(request.raw_path):
            return web.json_response({}, status=301, headers={"Location": f"{self.address}{target}"})
        if self.answer is not None:
            return self.answer(short)
        if "/commits/" not in request.path:
            return none(short)
        found = [each for each in git("rev-list", "--all", cwd=self.folder).split() if each.startswith(short)]
        if request.headers.get("If-None-Match") == '"one"':
            return web.Response(status=304)
        return say({self.key: found[0], "files": []}) if len(found) == 1 else none(short)


def say(body: Any) -> web.Response:
    """Return an answer."""
    return web.json_response(body, headers={"ETag": '"one"'})


def none(short: str) -> web.Response:
    """Return GitHub's answer for an id that it does not know, or that is ambiguous."""
    return web.json_response({"message": f"No commit found for SHA: {short}"}, status=422)


@pytest.fixture
def parent(tmp_path: Path) -> Parent:
    """The repository `org/sea`, with commits of forks."""
    (tmp_path / "org").mkdir()
    return make_parent(tmp_path / "org" / "sea")


@pytest.fixture
async def api(parent: Parent) -> AsyncIterator[CommitApi]:
    """The API."""
    served = CommitApi(parent.path)
    app = web.Application()
    app.router.add_get("/{path:.*}", served.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    served.address = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield served
    await runner.cleanup()


@pytest.fixture
def github(api: CommitApi, git_server: str) -> GitHubProvider:
    """GitHub with that API."""
    return GitHubProvider(f"{git_server}/git", api=GitHubApiSettings(api.address))


async def resolve(provider: Provider, spec: str) -> str:
    return (await provider.resolve(provider.parse(spec))).revision


async def test_github_is_asked_for_the_whole_id(github: GitHubProvider, api: CommitApi, parent: Parent) -> None:
    for ref in (parent.old[:7], parent.old[:39]):
        assert await resolve(github, f"org/sea/{ref}") == parent.old
    assert await resolve(github, f"org/sea/{parent.old[:7].upper()}") == parent.old
    assert api.paths == [f"/repos/org/sea/commits/{parent.old[:length]}" for length in (7, 39)], "answers are kept"


async def test_a_branch_or_tag_of_that_name_wins(github: GitHubProvider, api: CommitApi, parent: Parent) -> None:
    git("tag", parent.old[:7], parent.tip, cwd=parent.path)
    assert await resolve(github, f"org/sea/{parent.old[:7]}") == parent.tip
    assert api.seen == []


async def test_provenance_of_a_commit_does_not_depend_on_how_it_is_written(
    github: GitHubProvider, parent: Parent
) -> None:
    for commit, own in ((parent.old, True), (parent.foreign, False)):
        repo = await github.resolve(github.parse(f"org/sea/{commit[:8]}"))
        assert repo.revision == commit and github.known_provenance(repo) is None
        found = await github.find_provenance(repo)
        assert (found == Provenance()) is own, found
        whole = await github.resolve(github.parse(f"org/sea/{commit}"))
        assert await github.find_provenance(whole) == found


async def test_a_renamed_repository_is_followed(github: GitHubProvider, api: CommitApi, parent: Parent) -> None:
    short = parent.old[:7]
    api.moved = {f"/repos/org/sea/commits/{short}": f"/repositories/1/commits/{short}"}
    assert await resolve(github, f"org/sea/{short}") == parent.old
    api.moved[f"/repos/org/sea/commits/{parent.tip[:7]}"] = f".evil.example/{parent.tip[:7]}"
    with pytest.raises(RefNotFound):
        await resolve(github, f"org/sea/{parent.tip[:7]}")


async def test_the_token_and_the_etag_are_used(
    api: CommitApi, git_server: str, parent: Parent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    github = GitHubProvider(f"{git_server}/git", api=GitHubApiSettings(api.address, file))
    await resolve(github, f"org/sea/{parent.old[:7]}")
    assert api.seen[0].headers["Authorization"] == f"Bearer {TOKEN}"
    monkeypatch.setattr("pangeo_binder.repos.host_api.time.monotonic", lambda: 1e9)
    assert await resolve(github, f"org/sea/{parent.old[:7]}") == parent.old
    assert api.seen[1].headers["If-None-Match"] == '"one"'


REFUSED: dict[str, tuple[Answer, str]] = {
    "none": (none, "not exactly one commit"),
    "no repository": (lambda short: web.json_response({}, status=404), "not exactly one commit"),
    "another": (lambda short: say({"sha": "f" * 40}), "not exactly one commit"),
    "longer": (lambda short: say({"sha": f"{short}{'0' * 40}"}), "not exactly one commit"),
    "an option": (lambda short: say({"sha": "--upload-pack=touch x"}), "not exactly one commit"),
    "limited": (
        lambda short: web.json_response({}, status=403, headers={"Retry-After": "60"}),
        "looks like a short commit id",
    ),
    "malformed": (
        lambda short: web.Response(text="<html>", content_type="application/json"),
        "looks like a short commit id",
    ),
    "other": (lambda short: say({"sha": 7}), "looks like a short commit id"),
    "a list": (lambda short: say([]), "looks like a short commit id"),
    "large": (lambda short: say({"sha": short, "files": "x" * (2 << 20)}), "looks like a short commit id"),
    "broken": (lambda short: web.Response(status=502), "looks like a short commit id"),
}


@pytest.mark.parametrize("kind", REFUSED)
async def test_without_a_fitting_answer_the_whole_id_is_asked_for(
    github: GitHubProvider, api: CommitApi, kind: str
) -> None:
    api.answer, words = REFUSED[kind]
    with pytest.raises(RefNotFound, match=words) as caught:
        await resolve(github, "org/sea/0123456")
    assert caught.value.hint == "Use the full commit id of 40 characters, or a branch or tag."


async def test_an_ambiguous_id_is_refused(github: GitHubProvider, api: CommitApi, parent: Parent) -> None:
    api.answer = none  # as GitHub answers; a test cannot make two commits that begin alike
    for _ in range(3):
        with pytest.raises(RefNotFound, match="not exactly one commit whose id begins with it"):
            await resolve(github, f"org/sea/{parent.old[:7]}")
    assert len(api.seen) == 2, "a commit and a branch of that name; one badge uses up what all may ask"


async def test_nothing_is_asked_while_the_rate_limit_is_used_up(github: GitHubProvider, api: CommitApi) -> None:
    api.answer = REFUSED["limited"][0]
    for number in range(3):
        with pytest.raises(RefNotFound):
            await resolve(github, f"org/sea/012345{number}")
    assert len(api.seen) == 1


async def test_strangers_cannot_use_up_the_rate_limit(api: CommitApi, parent: Parent, git_server: str) -> None:
    github = GitHubProvider(f"{git_server}/git", api=GitHubApiSettings(api.address))
    assert isinstance(github._api, GitHubApi)
    for number in range(20):
        await github._api.find(f"repos/org/sea/commits/{number:07}")
    with pytest.raises(RefNotFound, match="looks like a short commit id"):
        await resolve(github, f"org/sea/{parent.old[:7]}")
    assert len(api.seen) == 20


async def test_a_word_of_the_same_letters_gets_suggestions(github: GitHubProvider, parent: Parent) -> None:
    with pytest.raises(RefNotFound) as caught:
        await resolve(github, "org/sea/defaced")
    assert caught.value.hint == "Its branches are: main."


async def test_gitlab_is_asked_for_the_whole_id(api: CommitApi, parent: Parent, git_server: str) -> None:
    api.key = "id"
    gitlab = GitLabProvider(f"{git_server}/git")
    gitlab._api = GitLabApi(api.address)  # GitLab serves both at one address
    short = parent.old[:7]
    assert await resolve(gitlab, f"org%2Fsea/{short}") == parent.old
    assert api.paths == [f"/api/v4/projects/org%2Fsea/repository/commits/{short}"]
    api.answer = lambda short: web.json_response({"message": "404 Commit Not Found"}, status=404)
    with pytest.raises(RefNotFound, match="not exactly one commit"):
        await resolve(gitlab, "org%2Fsea/0123456")
    api.answer = lambda short: web.json_response({}, status=429, headers={"Retry-After": "60"})
    for number in range(2):
        with pytest.raises(RefNotFound, match="looks like a short commit id"):
            await resolve(gitlab, f"org%2Fsea/012345{number}")
    assert len(api.seen) == 3


async def test_a_local_repository_knows_its_short_ids(parent: Parent) -> None:
    provider = GitProvider(allow_local=True)
    for url in (str(parent.path), parent.path.as_uri()):
        quoted = url.replace("/", "%2F")
        assert await resolve(provider, f"{quoted}/{parent.old[:7]}") == parent.old
        with pytest.raises(RefNotFound, match="not exactly one commit"):
            await resolve(provider, f"{quoted}/{'0' * 7}")


async def test_a_local_repository_runs_nothing_for_a_short_id(tmp_path: Path) -> None:
    """The commit of a tag is missing, and the settings name a command to fetch it."""
    folder, ran = make_repository(tmp_path / "sea", {}), tmp_path / "ran"
    git("tag", "-a", "v1", "-m", "annotated", cwd=folder)
    git("commit", "-q", "--allow-empty", "-m", "second", cwd=folder)
    tag, commit = git("rev-parse", "v1", cwd=folder), git("rev-parse", "v1^{commit}", cwd=folder)
    git("tag", "-d", "v1", cwd=folder)
    for key, value in (
        ("core.repositoryFormatVersion", "1"),
        ("extensions.partialClone", "origin"),
        ("remote.origin.promisor", "true"),
        ("remote.origin.url", str(tmp_path / "none")),
        ("remote.origin.uploadpack", f"touch {ran};"),
    ):
        git("config", key, value, cwd=folder)
    (folder / ".git" / "objects" / commit[:2] / commit[2:]).unlink()
    with pytest.raises(RefNotFound):
        await resolve(GitProvider(allow_local=True), f"{str(folder).replace('/', '%2F')}/{tag[:7]}")
    assert not ran.exists()


async def test_a_remote_git_server_cannot_look_them_up(parent: Parent, git_server: str) -> None:
    with pytest.raises(RefNotFound, match="looks like a short commit id") as caught:
        quoted = f"{git_server}/git/org/sea".replace("/", "%2F")
        await resolve(GitProvider(addresses=LOOPBACK), f"{quoted}/{parent.old[:7]}")
    assert "full commit id" in caught.value.hint
