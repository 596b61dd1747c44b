"""Test the providers of GitHub and GitLab: which links they accept, and refs of a host that is a real git server."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pangeo_binder.errors import BadLink
from pangeo_binder.repos.base import Provider
from pangeo_binder.repos.github import GitHubProvider
from pangeo_binder.repos.gitlab import GitLabProvider
from pangeo_binder.repos.registry import RepositoryHosts, make_providers
from tests.contracts.provider import SECRET, Provided, ProviderContract
from tests.repos.gitrepo import Parent, make_parent
from tests.repos.test_git_provider import BAD_REFS, COMMIT

GITHUB_LINKS = [
    ("org/repo/main", "org/repo", "main"),
    ("org/repo", "org/repo", "HEAD"),
    ("org/repo/", "org/repo", "HEAD"),
    ("org/repo.git/HEAD", "org/repo", "HEAD"),
    ("Org-1/re.po_x/feature/x", "Org-1/re.po_x", "feature/x"),
    ("org/repo/feature%2Fx", "org/repo", "feature/x"),
    ("org_corp/.github/v1.0", "org_corp/.github", "v1.0"),
    ("org/repo/refs/pull/7/head", "org/repo", "refs/pull/7/head"),
    (f"org/repo/{COMMIT}", "org/repo", COMMIT),
]
GITLAB_LINKS = [
    ("group%2Fproject/main", "group/project", "main"),
    ("group%2Fproject", "group/project", "HEAD"),
    ("group%2Fsub%2Fdeep%2Fpro.ject.git/feature/x", "group/sub/deep/pro.ject", "feature/x"),
    ("%2Fgroup%2Fproject%2F/v1", "group/project", "v1"),
]
BAD_GITHUB = [
    "org",
    "org/",
    "/repo/main",
    "org//main",
    "org/../main",
    "org/%2e%2e/main",
    "-org/repo/main",
    "org%2Frepo/x/main",
    "org%00/repo/main",
    "org/re%20po/main",
    "org/re%0d%0apo/main",
    "org/--upload-pack=x/main",
    "evil.example%2F/repo/main",
    "org@evil.example/repo/main",
    "örg/repo/main",
    f"{'o' * 101}/repo/main",
    f"org/{'r' * 101}/main",
]
BAD_GITLAB = [
    "group/project/main",
    "group/main",
    "group%2F..%2Fproject/main",
    "..%2Fproject/main",
    "-group%2Fproject/main",
    "group%2F-%2Fproject/main",
    "group%2Fpro%20ject/main",
    "group%2F%2Fproject/main",
    "user:pass@evil.example%2Fproject/main",
    f"{'%2F'.join('abcdefghijklmnopqrstuvw')}/main",
]


class HostedContract(ProviderContract):
    """A host's repositories, read over http; the tests of a driver set its class, its bad specs and `path`."""

    driver: type[GitHubProvider] | type[GitLabProvider]
    path: str
    """The repository's path as a link writes it."""
    bad: list[str]

    @pytest.fixture
    def parent(self, tmp_path: Path) -> Parent:
        """A repository with own and foreign commits, which the server serves at `path`."""
        folder = tmp_path.joinpath(*self.path.replace("%2F", "/").split("/"))
        folder.parent.mkdir(parents=True)
        return make_parent(folder)

    @pytest.fixture
    def provided(self, parent: Parent, git_server: str) -> Provided:
        def spec(ref: str) -> str:
            return f"{self.path}/{ref}"

        plain = self.path.replace("%2F", "/")
        return Provided(
            provider=self.driver(f"{git_server}/git"),
            typed=plain,
            own=tuple(map(spec, ("HEAD", "main", "refs/tags/v1", parent.old))),
            foreign=tuple(map(spec, ("refs/pull/1/head", parent.foreign, COMMIT))),
            bad=(*self.bad, *map(spec, BAD_REFS)),
            secret=tuple(f"{user}{self.path}/main" for user in (f"me:{SECRET}@", f"{SECRET}@")),
            unknown_ref=spec("mian"),
            unknown_repository=f"{self.path}-none/main",
            revision="[0-9a-f]{40}",
        )


@pytest.mark.processes
class TestGitHubProvider(HostedContract):
    """Repositories of GitHub."""

    driver, path, bad = GitHubProvider, "org/sea", BAD_GITHUB


@pytest.mark.processes
class TestGitLabProvider(HostedContract):
    """Projects of GitLab, in groups within groups."""

    driver, path, bad = GitLabProvider, "group%2Fsub%2Fsea", BAD_GITLAB


@pytest.mark.parametrize(("text", "path", "ref"), GITHUB_LINKS)
def test_reads_links_of_github(text: str, path: str, ref: str) -> None:
    parsed = GitHubProvider().parse(text)
    assert (parsed.provider, parsed.url, parsed.ref) == ("gh", f"https://github.com/{path}", ref)


@pytest.mark.parametrize(("text", "path", "ref"), GITLAB_LINKS)
def test_reads_links_of_gitlab(text: str, path: str, ref: str) -> None:
    parsed = GitLabProvider().parse(text)
    assert (parsed.provider, parsed.url, parsed.ref) == ("gl", f"https://gitlab.com/{path}", ref)


@pytest.mark.parametrize("provider", [GitHubProvider(), GitLabProvider()], ids=["gh", "gl"])
@pytest.mark.parametrize("url", ["https://github.com/org/repo", "http://127.0.0.1/r", "../srv/r", "file:///srv/r"])
def test_a_hosts_links_lead_to_no_other_host(provider: Provider, url: str) -> None:
    with pytest.raises(BadLink):
        provider.parse(f"{url.replace('/', '%2F')}/main")


def test_an_enterprise_host_and_its_port_are_settings() -> None:
    gh = GitHubProvider("https://ghe.example.org:8443/")
    ref = gh.parse("org/repo/main")
    assert ref.url == "https://ghe.example.org:8443/org/repo"
    assert gh.spec(ref) == "org/repo/main"
    assert re.search(gh.form.pattern, "https://ghe.example.org:8443/org/repo")
    assert not re.search(gh.form.pattern, "https://github.com/org/repo")


@pytest.mark.parametrize(
    "address", ["github.com", "ftp://x.example", "https://me:pass@x.example", "https://x.example/?y", "https://"]
)
def test_an_invalid_address_of_a_host_is_refused_at_start(address: str) -> None:
    with pytest.raises(ValueError, match="has the form https://host"):
        make_providers(RepositoryHosts(github=address))


ARCHIVES = ["zenodo", "figshare", "doi", "dataverse", "hydroshare", "ckan", "swh"]
NONE = RepositoryHosts(
    *("", "", ""), software_heritage="", zenodo="", figshare="", dataverses=(), hydroshare="", ckan=False
)


def test_a_host_without_an_address_has_no_links() -> None:
    assert [each.name for each in make_providers()] == ["gh", "gist", "gl", "git", *ARCHIVES]
    assert [each.name for each in make_providers(NONE)] == ["git"]
    assert [each.name for each in make_providers(allow_local=True)] == ["git", "gh", "gist", "gl", *ARCHIVES]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("org/repo", "org/repo"),
        ("https://github.com/org/repo", "org/repo"),
        ("https://www.github.com/org/repo.git", "org/repo"),
        ("http://github.com/org/re.po/", "org/re.po"),
        ("github.com/org/repo", "org/repo"),
        ("git@github.com:org/repo.git", "org/repo"),
        ("ssh://git@github.com/org/repo", "org/repo"),
        ("https://gitlab.com/org/repo", None),
        ("https://github.com.evil.example/org/repo", None),
        ("org", None),
        ("org/repo/more", None),
    ],
)
def test_the_form_finds_the_repository_in_what_is_typed(text: str, found: str | None) -> None:
    form = GitHubProvider().form
    assert bool(re.search(form.pattern, text)) == bool(found)
    named = re.search(form.detect.replace("?<repo>", "?P<repo>"), text)
    assert (named["repo"] if named else None) == found
