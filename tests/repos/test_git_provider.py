"""Test the git provider: which links it accepts, and how it resolves refs of real repositories."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest

from pangeo_binder.errors import BadLink, HostUnavailable, RefNotFound, RepoNotFound
from pangeo_binder.model import Click, Link, Repo, RepoRef
from pangeo_binder.repos.git import GitProvider
from pangeo_binder.repos.registry import provider_for
from tests.contracts.provider import SECRET, Provided, ProviderContract
from tests.repos.gitrepo import Parent, git, make_parent
from tests.repos.gitserver import LOOPBACK

COMMIT = "0123456789abcdef0123456789abcdef01234567"
BAD_URLS = [
    "",
    "example.org/r",
    "--upload-pack=touch x",
    "-oProxyCommand=x",
    "ext::sh -c x",
    "fd::17",
    "git://example.org/r",
    "ftp://example.org/r",
    "ssh://-oProxyCommand=x/r",
    "-oProxyCommand=x@example.org:r",
    "git@-oProxyCommand=x:r",
    "git@example.org:-r",
    "git@example.org::r",
    "https://example.org/a b",
    "https://example.org/a\nb",
    "https://example.org/a\x00b",
    "https://example.org/../r",
    "https://example.org//r",
    "https://example.org/r?x=protocol.ext.allow",
    "https://gist.github.com/user/0123456789abcdef",
    "git@gist.github.com:0123456789abcdef.git",
]
"""Addresses git must not see."""
BAD_REFS = ["-x", "--upload-pack=x", "a..b", "a b", "a%00b", "a@{1}", "a~1", "a^", "a:b", "x.lock"]
"""Refs git must not see."""


def spec(url: object, ref: str = "HEAD") -> str:
    return f"{quote(str(url), safe='')}/{ref}"


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Parent:
    """A repository with own and foreign commits."""
    return make_parent(tmp_path_factory.mktemp("provider") / "parent")


class TestGitProvider(ProviderContract):
    """Git repositories at any address."""

    @pytest.fixture
    def provided(self, parent: Parent) -> Provided:
        addresses = (f"https://me:{SECRET}@example.org/r", f"https://{SECRET}@h/r", f"ssh://a:{SECRET}@h/r")
        return Provided(
            provider=GitProvider(allow_local=True),
            typed=str(parent.path),
            own=tuple(spec(parent.path, ref) for ref in ("HEAD", "main", "refs/tags/v1", parent.old)),
            foreign=tuple(spec(parent.path, ref) for ref in ("refs/pull/1/head", parent.foreign, COMMIT)),
            bad=(*map(spec, BAD_URLS), *(spec("https://example.org/r", ref) for ref in BAD_REFS)),
            secret=tuple(map(spec, addresses)),
            unknown_ref=spec(parent.path, "mian"),
            unknown_repository=spec(parent.path / "none"),
            revision="[0-9a-f]{40}",
        )


def local(path: Path, ref: str = "HEAD"):
    provider = GitProvider(allow_local=True)
    return provider, provider.parse(spec(path, ref))


@pytest.mark.parametrize(
    ("text", "url", "ref"),
    [
        ("https%3A%2F%2Fexample.org%2Fr.git/HEAD", "https://example.org/r.git", "HEAD"),
        ("https%3A%2F%2Fexample.org%2Fr.git", "https://example.org/r.git", "HEAD"),
        ("https%3A%2F%2Fexample.org%2Fr.git/feature/sea", "https://example.org/r.git", "feature/sea"),
        ("https%3A%2F%2Fexample.org%2Fr.git/feature%2Fsea", "https://example.org/r.git", "feature/sea"),
        ("HTTPS%3A%2F%2FExample.ORG%3A443%2FOrg%2Fr%2F/v1", "https://example.org/Org/r", "v1"),
        ("http%3A%2F%2F127.0.0.1%3A8000%2Fr/main", "http://127.0.0.1:8000/r", "main"),
        ("ssh%3A%2F%2Fgit%40example.org%2Fo%2Fr/main", "ssh://git@example.org/o/r", "main"),
        ("git%40example.org%3Ao%2Fr.git/main", "git@example.org:o/r.git", "main"),
    ],
)
def test_reads_links(text, url, ref):
    parsed = GitProvider().parse(text)
    assert (parsed.provider, parsed.url, parsed.ref) == ("git", url, ref)


@pytest.mark.parametrize("url", ["/srv/r", "file:///srv/r"])
def test_refuses_paths_of_this_machine_unless_they_are_allowed(url):
    with pytest.raises(BadLink):
        GitProvider().parse(spec(url))
    assert GitProvider(allow_local=True).parse(spec(url)).url == url


async def test_resolves_every_kind_of_ref(repository):
    head, first = git("rev-parse", "HEAD", cwd=repository), git("rev-parse", "v1", cwd=repository)
    wanted = {"HEAD": head, "main": head, "feature/sea": first, "v1": first, "v2": head, "refs/heads/dev": first}
    wanted |= {"refs/tags/v2": head, head: head, COMMIT.upper(): COMMIT}
    for name, commit in wanted.items():
        provider, ref = local(repository, name)
        assert (await provider.resolve(ref)).revision == commit, name


async def test_one_git_looks_up_a_tag_of_this_machine(repository, git_log):
    """ls-remote would be a git, a shell and another git."""
    for name in ("v1", "v2", "refs/tags/v2"):
        for url in (repository, f"file://{repository}"):
            provider, ref = local(url, name)
            assert (await provider.resolve(ref)).revision
    ran = git_log()
    assert len(ran) == 6 and all("upload-pack" in each and "ls-remote" not in each for each in ran)


async def test_a_local_repository_that_upload_pack_does_not_answer_for_is_read(repository, tmp_path):
    """Its object ids are of another kind, or it is a bundle; git's client reads both."""
    other, bundle = tmp_path / "other", tmp_path / "sea.bundle"
    git("init", "-q", "-b", "main", "--object-format=sha256", str(other), cwd=tmp_path)
    git("commit", "-q", "--allow-empty", "-m", "first", cwd=other)
    git("bundle", "create", "-q", str(bundle), "main", cwd=repository)
    for url, commit in (
        (other, git("rev-parse", "main", cwd=other)),
        (bundle, git("rev-parse", "main", cwd=repository)),
    ):
        provider, ref = local(url, "main")
        assert (await provider.resolve(ref)).revision == commit


async def test_names_the_branches_when_there_is_no_such_ref(repository):
    provider, ref = local(repository, "mian")
    with pytest.raises(RefNotFound) as caught:
        await provider.resolve(ref)
    assert "no branch or tag `mian`" in caught.value.message
    assert caught.value.hint == "Its branches are: dev, feature/sea, main."


async def test_refuses_short_commit_ids_and_says_why(repository):
    provider, ref = local(repository, "0123456789")
    with pytest.raises(RefNotFound, match="full commit id of 40 characters"):
        await provider.resolve(ref)


async def test_reports_an_empty_repository(tmp_path):
    git("init", "-q", cwd=tmp_path)
    provider, ref = local(tmp_path)
    with pytest.raises(RefNotFound, match="no commits yet"):
        await provider.resolve(ref)


async def test_reports_a_missing_repository(tmp_path):
    provider, ref = local(tmp_path / "none")
    with pytest.raises(RepoNotFound, match="There is no git repository at"):
        await provider.resolve(ref)


async def test_resolves_over_http(repository, git_server):
    provider = GitProvider(addresses=LOOPBACK)
    repo = await provider.resolve(provider.parse(spec(f"{git_server}/git/sea", "feature/sea")))
    assert repo.revision == git("rev-parse", "v1", cwd=repository)


@pytest.mark.parametrize(("path", "words"), [("/private/r", "needs a login"), ("/nothing", "no git repository")])
async def test_reports_why_a_url_cannot_be_read(git_server, path, words):
    provider = GitProvider(addresses=LOOPBACK)
    with pytest.raises(RepoNotFound, match=words):
        await provider.resolve(provider.parse(spec(git_server + path)))


async def test_reports_an_unreachable_host():
    provider = GitProvider(addresses=LOOPBACK)
    with pytest.raises(HostUnavailable, match="cannot be reached"):
        await provider.resolve(provider.parse(spec("http://127.0.0.1:1/r")))


async def test_stops_waiting_for_a_host_that_does_not_answer(unresponsive_server):
    provider = GitProvider(addresses=LOOPBACK, timeout_seconds=1)
    with pytest.raises(HostUnavailable, match="did not answer within 1 second"):
        await provider.resolve(provider.parse(spec(f"{unresponsive_server}/r")))


async def test_a_repository_cannot_configure_git(repository, tmp_path):
    git("config", "core.fsmonitor", f"touch {tmp_path}/ran", cwd=repository)
    git("config", "uploadpack.packObjectsHook", f"touch {tmp_path}/ran", cwd=repository)
    provider, ref = local(repository)
    await provider.resolve(ref)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("url", "in_browser"),
    [
        ("https://github.com/org/sea.git", f"https://github.com/org/sea/tree/{'a' * 40}"),
        ("https://gitlab.com/org/group/sea", f"https://gitlab.com/org/group/sea/tree/{'a' * 40}"),
        ("https://example.org/sea.git", "https://example.org/sea.git"),
    ],
)
def test_the_link_of_a_launch_is_that_of_binderhub(url, in_browser):
    spec = f"{quote(url, safe='')}/main"
    click = Click("git", spec, "192.0.2.1", "https://hub.example/", "https://binder.example/b/")
    link = GitProvider().link(click, Repo(RepoRef("git", url, "main"), "a" * 40))
    persistent = f"v2/git/{quote(url, safe='')}/{'a' * 40}"
    assert link == Link("https://binder.example/b/", f"v2/git/{spec}", persistent, in_browser)


def test_finds_providers_by_name():
    provider = GitProvider()
    assert provider_for([provider], "git") is provider
    with pytest.raises(BadLink, match="Known kinds: git"):
        provider_for([provider], "zenodo")
