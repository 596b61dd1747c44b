"""Test that a private repository is launched only if the operator shares it, and that its token goes nowhere else."""

from __future__ import annotations

import base64
import os
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from http.server import ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

import pytest

from pangeo_binder.addresses import EVERYWHERE, AddressRules
from pangeo_binder.builders.base import BuildSettings
from pangeo_binder.builders.checkout import check_out
from pangeo_binder.builders.pod import container
from pangeo_binder.builders.pod_layout import CHECKOUT, GIT_NETWORKS, PodPaths
from pangeo_binder.builders.venv.builder import VenvBuilder
from pangeo_binder.errors import BuildFailed, RefNotFound, RepoNotFound, UserError, refusal_from
from pangeo_binder.git import Git, GitAccess
from pangeo_binder.launch.admission import Admission
from pangeo_binder.launch.builds import SharedBuilds
from pangeo_binder.launch.hub import Hub
from pangeo_binder.launch.pipeline import Collaborators, Pipeline
from pangeo_binder.launch.preview import NoPreview, Previews
from pangeo_binder.launch.queue import Queue
from pangeo_binder.model import Click, Repo, VirtualEnvironment
from pangeo_binder.policy.load import default_policy
from pangeo_binder.repos.base import Provenance, Provider
from pangeo_binder.repos.github_api import GitHubApiSettings
from pangeo_binder.repos.private import share_private
from pangeo_binder.repos.registry import RepositoryHosts, make_providers, provider_for
from tests.launch.conftest import QuickBuilder
from tests.repos.gitrepo import git, make_repository
from tests.repos.gitserver import LOOPBACK, GitHandler, serving

pytestmark = pytest.mark.processes

KEY = "k" * 32
TOKEN = "token-of-the-operator"
BASIC = base64.b64encode(f"x-access-token:{TOKEN}".encode()).decode()


class ClosedServer(ThreadingHTTPServer):
    """A git server that needs a login for the repositories below `/git/org/`."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str | None]] = []
        """The path and the credentials of each request."""
        super().__init__(("127.0.0.1", 0), ClosedHandler)


class ClosedHandler(GitHandler):
    """Handler of its requests."""

    server: ClosedServer

    def _lets_in(self) -> bool:
        given = self.headers.get("Authorization")
        self.server.seen.append((self.path, given))
        if not self.path.startswith("/git/org/") or given == f"Basic {BASIC}":
            return True
        self.send_response(401)
        self.send_header("WWW-Authenticate", 'Basic realm="git"')
        self.send_header("Content-Length", "0")
        self.end_headers()
        return False

    def do_GET(self) -> None:
        if self._lets_in():
            super().do_GET()

    def do_POST(self) -> None:
        if self._lets_in():
            super().do_POST()


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ClosedServer]:
    """The server, with the private repository `org/sea` and the public one `open/lake`."""
    monkeypatch.setenv("GIT_PROJECT_ROOT", str(tmp_path / "served"))
    monkeypatch.setenv("GIT_HTTP_EXPORT_ALL", "1")
    sea = make_repository(tmp_path / "served" / "org" / "sea", {"postBuild": "#!/bin/sh\nenv\n", "secret.txt": "deep"})
    git("commit", "-q", "--allow-empty", "-m", "second", cwd=sea)
    lake = make_repository(tmp_path / "served" / "open" / "lake", {"readme.md": "lake\n"})
    git("commit", "-q", "--allow-empty", "-m", "second", cwd=lake)
    closed = ClosedServer()
    with serving(closed):
        yield closed


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    """A file with the token."""
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    return file


def url_of(server: ClosedServer, path: str) -> str:
    return f"http://127.0.0.1:{server.server_port}/{path}"


def hosts_of(server: ClosedServer, token_file: Path | None, pattern: str = "git/org/*") -> RepositoryHosts:
    """Return the settings with GitHub at the server; without a token file nothing is shared."""
    shared = {f"git/{url_of(server, pattern)}": str(token_file)} if token_file else {}
    api = GitHubApiSettings("http://127.0.0.1:9", token_file)
    return RepositoryHosts(
        github=url_of(server, "git"), addresses=LOOPBACK, github_api=api, private=share_private(shared)
    )


def access_of(hosts: RepositoryHosts, rules: AddressRules = LOOPBACK) -> GitAccess:
    return GitAccess(rules is EVERYWHERE, addresses=hosts.own_addresses, token_files=hosts.private.token_file)


async def resolve(hosts: RepositoryHosts, kind: str, spec: str, rules: AddressRules = LOOPBACK) -> Repo:
    provider = provider_for(make_providers(hosts, allow_local=rules is EVERYWHERE), kind)
    return await provider.resolve(provider.parse(spec))


def commit_of(tmp_path: Path, name: str) -> str:
    return git("rev-parse", "HEAD", cwd=tmp_path / "served" / name)


async def checked_out(repo: Repo, into: Path, access: GitAccess) -> str:
    return "\n".join([line async for line in check_out(repo, into, access, time.monotonic() + 60)])


async def launched(providers: tuple[Provider, ...], builds: SharedBuilds) -> str:
    """Return what a launch of the private repository prints up to its environment, which needs no hub."""
    admission = Admission(default_policy(), Hub("http://127.0.0.1:9", "", [KEY]), Queue(0))
    pipeline = Pipeline(Collaborators(providers, admission, builds, Hub("http://127.0.0.1:9", "", [KEY]), [KEY]))
    click = Click("gh", "org/sea/main", "192.0.2.1", "http://127.0.0.1:9/", "http://127.0.0.1:9/", build_only=True)
    return "".join([event.message async for event in pipeline.run(click)])


def texts_with_secrets(folder: Path) -> list[Path]:
    """Return the files below `folder` that hold the token in a form."""
    secrets = (TOKEN.encode(), BASIC.encode())
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return [path for path in files if any(secret in path.read_bytes() for secret in secrets)]


async def test_a_shared_repository_is_built_and_its_token_stays_with_git(
    server: ClosedServer, token_file: Path, settings: BuildSettings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    hosts = hosts_of(server, token_file)
    builds = SharedBuilds(VenvBuilder(replace(settings, git=access_of(hosts, EVERYWHERE))))
    log = await launched(make_providers(hosts, allow_local=True), builds)
    environment = await builds.find(await resolve(hosts, "gh", "org/sea/main", EVERYWHERE))
    assert isinstance(environment, VirtualEnvironment)
    assert (Path(environment.checkout) / "secret.txt").read_text() == "deep"
    assert "HOME=" in log, "the build printed its environment"
    for said in (log, caplog.text, repr(access_of(hosts))):
        assert TOKEN not in said and BASIC not in said and "GIT_CONFIG_VALUE" not in said
    assert texts_with_secrets(settings.cache_dir) == []


async def test_a_launch_of_it_is_refused_by_default(
    server: ClosedServer, token_file: Path, settings: BuildSettings
) -> None:
    hosts = hosts_of(server, None)
    hosts = replace(hosts, github_api=GitHubApiSettings("http://127.0.0.1:9", token_file))
    builds = SharedBuilds(VenvBuilder(replace(settings, git=access_of(hosts, EVERYWHERE))))
    with pytest.raises(RepoNotFound, match="needs a login"):
        await launched(make_providers(hosts, allow_local=True), builds)


@pytest.mark.parametrize("rules", [LOOPBACK, EVERYWHERE], ids=["public binder", "own machine"])
async def test_each_way_to_read_a_shared_repository_has_the_token(
    server: ClosedServer, token_file: Path, tmp_path: Path, rules: AddressRules
) -> None:
    hosts = hosts_of(server, token_file)
    old = git("rev-parse", "HEAD~1", cwd=tmp_path / "served" / "org" / "sea")
    spec = f"{quote(url_of(server, 'git/org/sea'), safe='')}/{old}"
    provider = provider_for(make_providers(hosts, allow_local=rules is EVERYWHERE), "git")
    repo = await provider.resolve(provider.parse(spec))
    assert await provider.find_provenance(repo) == Provenance()
    await checked_out(repo, tmp_path / "into", access_of(hosts, rules))
    assert git("log", "--oneline", cwd=tmp_path / "into")
    assert texts_with_secrets(tmp_path / "into") == []


async def test_a_private_repository_is_refused_unless_it_is_shared(
    server: ClosedServer, token_file: Path, tmp_path: Path, settings: BuildSettings
) -> None:
    """The token of the API is not for git."""
    only_api = hosts_of(server, None)
    only_api = replace(only_api, github_api=GitHubApiSettings("http://127.0.0.1:9", token_file))
    for hosts in (only_api, hosts_of(server, token_file, "git/other/*")):
        with pytest.raises(RepoNotFound, match="needs a login"):
            await resolve(hosts, "gh", "org/sea/main")
        whole = await resolve(hosts, "gh", f"org/sea/{commit_of(tmp_path, 'org/sea')}")
        with pytest.raises(RepoNotFound, match="needs a login"):
            await checked_out(whole, tmp_path / str(bool(hosts.private.files)), access_of(hosts))
    with pytest.raises(NoPreview):
        access = access_of(hosts_of(server, token_file))
        await Previews(SharedBuilds(QuickBuilder(settings)), access)._make(whole, "postBuild")
    assert {given for _, given in server.seen} == {None}


def test_a_build_pods_first_container_fetches_it(
    server: ClosedServer, token_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd
) -> None:
    monkeypatch.setenv(GIT_NETWORKS, "127.0.0.0/8")
    paths = PodPaths(build=tmp_path / "pod", report=tmp_path / "report")
    paths.report.touch()
    repository = ["--ref=main", "--", url_of(server, "git/org/sea"), commit_of(tmp_path, "org/sea")]
    assert container.main(["fetch", *repository], paths) == 1
    error = refusal_from(paths.report.read_text())
    assert isinstance(error, RepoNotFound) and "needs a login" in error.message
    shutil.rmtree(paths.build)
    assert container.main(["fetch", f"--token-file={token_file}", *repository], paths) == 0
    assert (paths.build / CHECKOUT / "secret.txt").read_text() == "deep"
    said = capfd.readouterr()
    assert "Fetching" in said.out and TOKEN not in said.out + said.err and BASIC not in said.out + said.err
    assert texts_with_secrets(paths.build) == [] and BASIC not in str(os.environ)
    assert container.main(["fetch", "--", "--upload-pack=touch x", "a" * 40], paths) == 1


async def test_other_repositories_of_the_server_do_not_get_it(
    server: ClosedServer, token_file: Path, tmp_path: Path
) -> None:
    hosts = hosts_of(server, token_file)
    repo = await resolve(hosts, "gh", "open/lake/main")
    await checked_out(repo, tmp_path / "into", access_of(hosts))
    assert {given for _, given in server.seen} == {None}


@pytest.mark.parametrize("rules", [LOOPBACK, EVERYWHERE], ids=["public binder", "own machine"])
async def test_a_redirects_target_does_not_get_it(
    server: ClosedServer, token_file: Path, tmp_path: Path, rules: AddressRules
) -> None:
    shared = {f"git/{url_of(server, each)}": str(token_file) for each in ("to/*", "git/open/*", "git/org/*")}
    hosts = replace(hosts_of(server, token_file), private=share_private(shared))
    old = git("rev-parse", "HEAD~1", cwd=tmp_path / "served" / "open" / "lake")
    for host in ("localhost", "127.0.0.1"):
        spec = f"{quote(url_of(server, f'to/{host}/git/open/lake'), safe='')}/main"
        repo = await resolve(hosts, "git", spec, rules)
        await checked_out(repo, tmp_path / host, access_of(hosts, rules))
        provider = provider_for(make_providers(hosts, allow_local=rules is EVERYWHERE), "git")
        await provider.find_provenance(replace(repo, revision=old))
    asked = {(path.startswith("/to/"), given) for path, given in server.seen}
    assert (True, f"Basic {BASIC}") in asked and (False, None) in asked and (False, f"Basic {BASIC}") not in asked
    with pytest.raises(RepoNotFound, match="needs a login"):
        spec = f"{quote(url_of(server, 'to/127.0.0.1/git/org/sea'), safe='')}/main"
        await resolve(hosts, "git", spec, rules)


async def test_a_submodule_does_not_get_it(server: ClosedServer, token_file: Path, tmp_path: Path) -> None:
    """Somebody else's repository names the private one as its submodule."""
    lake = tmp_path / "served" / "open" / "lake"
    (lake / ".gitmodules").write_text(f'[submodule "fetch"]\n\tpath = fetch\n\turl = {url_of(server, "git/org/sea")}\n')
    git("update-index", "--add", "--cacheinfo", f"160000,{commit_of(tmp_path, 'org/sea')},fetch", cwd=lake)
    git("add", ".gitmodules", cwd=lake)
    git("commit", "-q", "-m", "submodule", cwd=lake)
    hosts = hosts_of(server, token_file)
    shared = {f"git/{url_of(server, f'git/{each}/*')}": str(token_file) for each in ("open", "org")}
    hosts = replace(hosts, private=share_private(shared))
    repo = await resolve(hosts, "gh", "open/lake/main")
    with pytest.raises(BuildFailed, match="submodule `fetch` could not be fetched"):
        await checked_out(repo, tmp_path / "into", access_of(hosts))
    assert {given for path, given in server.seen if path.startswith("/git/org/")} == {None}
    assert f"Basic {BASIC}" in {given for path, given in server.seen if path.startswith("/git/open/")}


async def test_only_commands_that_fetch_get_it_and_none_in_its_arguments(
    server: ClosedServer, token_file: Path
) -> None:
    hosts = hosts_of(server, token_file)
    read = await Git(url_of(server, "git/org/sea"), access_of(hosts)).reach()
    for args, gets in ((("fetch", "origin"), True), (("ls-remote",), True), (("checkout", "-q"), False)):
        command = read.command(*args, cwd=Path("/"), timeout_seconds=1)
        assert (BASIC in str(command.env)) is gets, args
        assert not re.search(f"{TOKEN}|{BASIC}", f"{command.argv}{command}{read}")
        other = read.without_token().command(*args, cwd=Path("/"), timeout_seconds=1)
        assert "GIT_CONFIG_VALUE_0" not in other.env


async def test_strangers_learn_no_names_of_branches(server: ClosedServer, token_file: Path) -> None:
    with pytest.raises(RefNotFound) as caught:
        await resolve(hosts_of(server, token_file), "gh", "org/sea/mian")
    assert "main" not in str(caught.value)


@pytest.mark.parametrize("text", [None, "", "two words", "x" * 5000, "\u00e9"])
async def test_a_file_without_a_token_is_a_sentence(server: ClosedServer, token_file: Path, text: str | None) -> None:
    if text is None:
        token_file.unlink()
    else:
        token_file.write_text(text)
    with pytest.raises(UserError, match=r"cannot read .* now"):
        await resolve(hosts_of(server, token_file), "gh", "org/sea/main")
    assert server.seen == []


@pytest.mark.parametrize(
    ("url", "gets"),
    [
        ("https://github.com/org/sea", True),
        ("https://github.com/Org/sea.git", True),
        ("http://github.com/org/sea", False),
        ("ssh://git@github.com/org/sea", False),
        ("https://github.com/organisation/sea", False),
        ("https://github.com:8443/org/sea", False),
        ("https://evil.example/org/sea", False),
        ("/org/sea", False),
    ],
)
def test_a_token_is_for_the_named_repositories_by_https(url: str, gets: bool) -> None:
    found = share_private({"gh/org/*": "/token"}).token_file(url)
    assert found == (Path("/token") if gets else None)


WITHOUT_OWNER = "* gh/* gh/org* gh/*/sea gist/user/* zenodo/* *sea org/sea git//srv/* git/https://git.example.org/*"


@pytest.mark.parametrize("pattern", ["git/http://localhost:3000/org/*", "git/ssh://git@git.example.org/org/*"])
def test_a_pattern_whose_repositories_would_never_get_the_token_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="by no other"):
        share_private({pattern: "/token"})


@pytest.mark.parametrize("pattern", ["", "git/https://*.example.org/org/*", *WITHOUT_OWNER.split()])
def test_a_pattern_that_names_no_owner_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"name|pattern"):
        share_private({pattern: "/token"})
