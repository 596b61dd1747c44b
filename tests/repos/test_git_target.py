"""Test which servers git contacts for a link: real git servers on loopback, of which only one address is allowed."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

import pytest

from pangeo_binder.addresses import PUBLIC, AddressRules, is_public, make_rules
from pangeo_binder.builders.checkout import check_out
from pangeo_binder.errors import BuildFailed, HostUnavailable, RepoNotFound, UserError
from pangeo_binder.git import Git, GitAccess
from pangeo_binder.git_target import TargetRefused, parse_target
from pangeo_binder.model import Repo, RepoRef
from pangeo_binder.repos.git import GitProvider
from pangeo_binder.repos.github import GitHubProvider
from pangeo_binder.repos.listing import list_refs
from tests.repos.gitrepo import git, make_repository
from tests.repos.gitserver import GitHandler, serving

REFUSED = [
    *("127.0.0.1", "127.8.8.8", "0.0.0.0", "::1", "::", "::ffff:127.0.0.1", "::ffff:a9fe:a9fe", "64:ff9b::7f00:1"),
    *("10.0.0.1", "172.16.0.1", "192.168.1.1", "fd00::1", "fec0::1", "2002:a00:1::1"),
    *("169.254.169.254", "fe80::1", "fe80::1%eth0", "fd00:ec2::254", "168.63.129.16", "100.100.100.200"),
    *("100.64.0.1", "100.127.255.254", "224.0.0.1", "239.1.1.1", "ff02::1", "240.0.0.1", "255.255.255.255"),
    *("192.0.2.1", "198.18.0.1", "2001:db8::1"),
]
PUBLIC_ONES = ["8.8.8.8", "140.82.112.3", "2606:4700::1111", "64:ff9b::808:808"]


@pytest.mark.parametrize("address", REFUSED)
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", PUBLIC_ONES)
def test_public_addresses(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "url",
    [
        *(
            "https://0x7f000001/r",
            "https://2130706433/r",
            "https://0177.0.0.1/r",
            "https://127.1/r",
            "https://010.0.0.1/r",
        ),
        *("https://a@b@c.example/r", "https://a.example\\@b.example/r", "https://a.example#@b.example/r"),
        *("https://a%2eexample/r", "https://ä.example/r", "https://a.example./r", "https://a.example:0/r"),
        *("https://a.example:99999/r", "ftp://a.example/r", "file:///r", "/r", "-x", "ext::sh -c x", "https:///r", ""),
    ],
)
def test_a_host_that_programs_may_read_differently_is_refused(url: str) -> None:
    with pytest.raises(TargetRefused):
        parse_target(url)


@dataclass(frozen=True, slots=True)
class Names(AddressRules):
    """Rules with name servers of their own."""

    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    async def look_up(self, host: str, port: int, family: int) -> tuple[str, ...]:
        found = self.names.get(host)
        return found if found else await AddressRules.look_up(self, host, port, family)


NAMES = {
    "public.example": ("127.0.0.2",),
    "both.example": ("127.0.0.1", "127.0.0.2"),
    "internal.example": ("127.0.0.1",),
    "metadata.example": ("169.254.169.254",),
}
RULES = Names(networks=make_rules(networks=["127.0.0.2/32"]).networks, names=NAMES)
ACCESS = GitAccess(addresses=RULES)


class Recorder(GitHandler):
    """Handler that records which addresses were contacted; it serves plain files below `/static/`."""

    def do_GET(self) -> None:
        self.server.contacted.add(self.connection.getsockname()[0])
        self.server.paths.add(self.path.partition("?")[0])
        super().do_GET()

    def translate_path(self, path: str) -> str:
        name = path.partition("?")[0].removeprefix("/static/")
        return str(Path(os.environ["GIT_PROJECT_ROOT"]) / name) if name != path else super().translate_path(path)


@dataclass(frozen=True, slots=True)
class Servers:
    """One port at which 127.0.0.2 stands for the internet and 127.0.0.1 for the binder's own network."""

    port: int
    contacted: set[str]
    paths: set[str]
    folder: Path

    def url(self, host: str, path: str = "git/sea") -> str:
        return f"http://{host}:{self.port}/{path}"

    def add(self, name: str, files: dict[str, str]) -> str:
        """Make a repository and return its commit."""
        return git("rev-parse", "HEAD", cwd=make_repository(self.folder / name, files))


@pytest.fixture
def servers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Servers]:
    monkeypatch.setenv("GIT_PROJECT_ROOT", str(tmp_path))
    monkeypatch.setenv("GIT_HTTP_EXPORT_ALL", "1")
    server = ThreadingHTTPServer(("0.0.0.0", 0), Recorder)
    server.contacted, server.paths = set(), set()  # type: ignore[attr-defined]
    with serving(server):
        found = Servers(server.server_port, server.contacted, server.paths, tmp_path)  # type: ignore[attr-defined]
        found.add("sea", {"readme.md": "sea\n"})
        yield found


@pytest.mark.parametrize("host", ["127.0.0.2", "public.example", "both.example", "PUBLIC.example"])
async def test_git_contacts_the_checked_addresses_only(servers: Servers, host: str) -> None:
    # git could not resolve these names by itself
    assert (await list_refs(servers.url(host), ACCESS)).commits
    assert servers.contacted == {"127.0.0.2"}


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "internal.example", "metadata.example", "[::1]", "[::ffff:127.0.0.1]"]
)
async def test_git_does_not_contact_a_private_address(servers: Servers, host: str) -> None:
    with pytest.raises(HostUnavailable, match="cannot be reached from this binder"):
        await list_refs(servers.url(host), ACCESS)
    assert servers.contacted == set()


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "internal.example", "both.example/to/internal.example", "2130706433"]
)
async def test_a_redirect_leads_to_no_private_address(servers: Servers, host: str) -> None:
    for url in (servers.url("public.example", f"to/{host}/git/sea"), servers.url("127.0.0.2", f"to/{host}/git/sea")):
        with pytest.raises(HostUnavailable, match="cannot be reached from this binder"):
            await list_refs(url, ACCESS)
        with pytest.raises(HostUnavailable, match="cannot be reached from this binder"):
            await fetched(url, "a" * 40, servers.folder / quote(url, safe=""))
    assert servers.contacted == {"127.0.0.2"}


async def test_a_redirect_to_an_allowed_address_is_followed(servers: Servers) -> None:
    url = servers.url("127.0.0.2", "to/public.example/git/sea")
    listing = await list_refs(url, ACCESS)
    assert listing.served == servers.url("public.example") + "/" and listing.commits
    into = servers.folder / "into"
    await fetched(url, listing.commits["refs/heads/main"], into)
    assert (into / "readme.md").read_text() == "sea\n"
    assert git("config", "remote.origin.url", cwd=into) == url
    assert servers.contacted == {"127.0.0.2"}


async def test_a_redirect_without_end_is_left(servers: Servers) -> None:
    url = servers.url("127.0.0.2", "to/127.0.0.2/" * 8 + "git/sea")
    with pytest.raises(RepoNotFound):
        await list_refs(url, ACCESS)


async def fetched(url: str, commit: str, into: Path) -> None:
    """Check out a commit, as a build does."""
    repo = Repo(RepoRef("git", url, "main"), commit)
    async for _ in check_out(repo, into, ACCESS, time.monotonic() + 60):
        pass


def with_submodule(servers: Servers, url: str) -> str:
    """Make a repository with a submodule at `url`; return its commit."""
    folder = servers.folder / "outer"
    make_repository(folder, {".gitmodules": f'[submodule "sub"]\n\tpath = sub\n\turl = {url}\n'})
    commit = git("rev-parse", "HEAD", cwd=servers.folder / "sea")
    git("update-index", "--add", "--cacheinfo", f"160000,{commit},sub", cwd=folder)
    git("commit", "-q", "-m", "sub", cwd=folder)
    return git("rev-parse", "HEAD", cwd=folder)


@pytest.mark.parametrize("path", ["git/sea", "to/public.example/git/sea"])
async def test_submodules_are_fetched_from_allowed_addresses(servers: Servers, path: str) -> None:
    commit = with_submodule(servers, servers.url("public.example", path))
    await fetched(servers.url("public.example", "git/outer"), commit, servers.folder / "into")
    assert (servers.folder / "into" / "sub" / "readme.md").read_text() == "sea\n"
    assert servers.contacted == {"127.0.0.2"}


@pytest.mark.parametrize(
    ("host", "path"),
    [
        *(
            ("127.0.0.1", "git/sea"),
            ("internal.example", "git/sea"),
            ("localhost", "git/sea"),
            ("2130706433", "git/sea"),
        ),
        *(("public.example", "to/127.0.0.1/git/sea"), ("public.example", "to/internal.example/git/sea")),
    ],
)
async def test_submodules_are_fetched_from_no_private_address(servers: Servers, host: str, path: str) -> None:
    commit = with_submodule(servers, servers.url(host, path))
    with pytest.raises(BuildFailed, match="submodule `sub`"):
        await fetched(servers.url("public.example", "git/outer"), commit, servers.folder / "into")
    assert servers.contacted == {"127.0.0.2"}


async def test_a_server_without_gits_protocol_sends_git_to_no_other_server(servers: Servers) -> None:
    """Such a server may name another one for missing objects, see gitrepository-layout(5), `http-alternates`."""
    bare = servers.folder / "dumb"
    git("clone", "-q", "--bare", "--no-hardlinks", str(servers.folder / "sea"), str(bare), cwd=servers.folder)
    git("update-server-info", cwd=bare)
    commit = git("rev-parse", "HEAD", cwd=bare)
    (bare / "objects" / commit[:2] / commit[2:]).unlink()
    (bare / "objects" / "info").mkdir(exist_ok=True)
    (bare / "objects" / "info" / "http-alternates").write_text(servers.url("127.0.0.1", "static/sea/.git/objects/"))
    with pytest.raises(UserError):
        await fetched(servers.url("public.example", "static/dumb"), commit, servers.folder / "into")
    assert "/static/dumb/objects/info/http-alternates" in servers.paths
    assert servers.contacted == {"127.0.0.2"}


async def test_git_contacts_no_server_that_was_not_checked(servers: Servers) -> None:
    unchecked = await Git(servers.url("127.0.0.2"), ACCESS).run("ls-remote", "--", servers.url("127.0.0.2"))
    assert "transport 'http' not allowed" in unchecked.err
    assert servers.contacted == set()


async def test_ssh_connects_to_the_checked_address() -> None:
    reached = await Git("git@public.example:org/sea.git", ACCESS).reach()
    command = reached.command("ls-remote", cwd=Path("/"), timeout_seconds=1)
    assert command.env["GIT_SSH_COMMAND"].endswith(" -oHostName=127.0.0.2 -oHostKeyAlias=public.example")
    assert command.env["GIT_ALLOW_PROTOCOL"] == "ssh"
    for url in ("git@internal.example:org/sea.git", "ssh://git@127.0.0.1/org/sea.git"):
        with pytest.raises(HostUnavailable):
            await Git(url, ACCESS).reach()


async def test_the_operator_names_private_hosts(servers: Servers) -> None:
    for rules in (make_rules(["Localhost"]), make_rules(networks=["127.0.0.0/8"])):
        provider = GitProvider(addresses=rules)
        spec = f"{quote(servers.url('localhost'), safe='')}/main"
        assert (await provider.resolve(provider.parse(spec))).revision
    with pytest.raises(HostUnavailable):
        await list_refs(servers.url("127.0.0.1"), GitAccess(addresses=make_rules(["localhost"])))


async def test_a_host_of_short_links_may_be_private(servers: Servers) -> None:
    provider = GitHubProvider(servers.url("localhost", "git"))
    make_repository(servers.folder / "org" / "sea", {})
    assert (await provider.resolve(provider.parse("org/sea/main"))).revision
    redirecting = GitHubProvider(servers.url("localhost", "to/127.0.0.1/git"))
    with pytest.raises(HostUnavailable):
        await redirecting.resolve(redirecting.parse("org/sea/main"))


async def test_with_a_proxy_names_may_be_unknown_here(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    url = servers.url("unknown.invalid")
    with pytest.raises(HostUnavailable):
        await list_refs(url, ACCESS)
    monkeypatch.setenv("http_proxy", servers.url("127.0.0.1", ""))
    # the proxy answers, although as a simple server it does not know the path
    with pytest.raises(RepoNotFound):
        await list_refs(url, ACCESS)
    assert servers.contacted == {"127.0.0.1"}
    monkeypatch.setenv("no_proxy", "unknown.invalid")
    reached = await Git(url, ACCESS).reach()
    assert reached.targets[0].addresses == ("192.0.2.1",)


async def test_an_old_git_which_ignores_the_addresses_is_not_used(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pangeo_binder.git._LEAST_VERSION", (99, 0))
    with pytest.raises(HostUnavailable, match="cannot read repositories"):
        await list_refs(servers.url("public.example"), ACCESS)
    assert servers.contacted == set()


class IPv6Server(ThreadingHTTPServer):
    """Server on IPv6's loopback."""

    address_family = socket.AF_INET6


async def test_an_address_of_ipv6_in_a_url(servers: Servers) -> None:
    server = IPv6Server(("::1", 0), Recorder)
    server.contacted, server.paths = set(), set()  # type: ignore[attr-defined]
    with serving(server):
        url = f"http://[::1]:{server.server_port}/git/sea"
        assert (await list_refs(url, GitAccess(addresses=make_rules(networks=["::1/128"])))).commits
        with pytest.raises(HostUnavailable):
            await list_refs(url, ACCESS)


def test_a_users_own_machine_has_no_such_rules() -> None:
    assert GitAccess(allow_local=True).rules.everywhere and not GitAccess().rules.everywhere
    assert not PUBLIC.allows("127.0.0.1")
