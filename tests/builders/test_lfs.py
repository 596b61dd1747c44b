"""Test that LFS files are fetched within limits, from allowed addresses alone, and that the log names the others."""

from __future__ import annotations

from pathlib import Path

import pytest

from pangeo_binder.addresses import EVERYWHERE, PUBLIC, make_rules
from pangeo_binder.builders.checkout import CheckoutLimits
from pangeo_binder.builders.lfs import LfsLimits
from pangeo_binder.builders.lfs_addresses import lfs_server as server_of
from pangeo_binder.public_hosts import Addresses, AddressRefused
from tests.builders.test_checkout import fetch
from tests.repos.gitrepo import git, make_repository

pytestmark = pytest.mark.processes
ATTRIBUTES = {".gitattributes": "*.dat filter=lfs diff=lfs merge=lfs -text\n"}
DATA = b"many bytes\n" * 1000


class Case:
    """A repository with LFS files, and its checkout."""

    def __init__(self, server, folder: Path) -> None:
        self.server = server
        self.folder = folder
        self.into = folder / "into"

    async def log(self, files: dict[str, str], limits: LfsLimits | None = None, served: bool = True) -> str:
        """Check a repository with `files` out and return the log."""
        path = make_repository(self.folder / "sea", ATTRIBUTES | files)
        url = f"{self.server.url}/git/sea" if served else path
        commit = git("rev-parse", "HEAD", cwd=path)
        return await fetch(url, commit, self.into, limits=CheckoutLimits(lfs=limits or LfsLimits()))

    def is_pointer(self, name: str) -> bool:
        return (self.into / name).read_bytes().startswith(b"version https://git-lfs")


@pytest.fixture
def case(lfs_server, tmp_path):
    return Case(lfs_server, tmp_path)


async def test_lfs_files_are_fetched_and_git_shows_no_change(case):
    pointer = case.server.store(DATA)
    log = await case.log({"a.dat": pointer, "b/ü.dat": pointer, "c.txt": pointer})
    assert (case.into / "a.dat").read_bytes() == (case.into / "b/ü.dat").read_bytes() == DATA
    assert case.is_pointer("c.txt"), "no attribute says that it is an LFS file"
    assert case.server.asked[0] == "/git/sea.git/info/lfs/objects/batch"
    assert len([each for each in case.server.asked if each.startswith("/stored/")]) == 1
    assert git("status", "--porcelain", cwd=case.into) == ""
    assert "Fetching 2 LFS files" in log and "Left" not in log


async def test_a_redirect_is_followed_and_the_login_stays_with_its_server(case):
    pointer = case.server.store(DATA)
    case.server.links = f"{case.server.url}/moved"
    await case.log({"a.dat": pointer})
    assert (case.into / "a.dat").read_bytes() == DATA
    assert all(each.endswith("Basic login") for each in case.server.asked[1:])


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (LfsLimits(files=1), "because there are more than 1: b.dat"),
        (LfsLimits(bytes=len(DATA) + 1), "because together they exceed 0 MiB: b.dat"),
    ],
)
async def test_files_above_a_limit_stay_pointers_and_are_named(case, limits, reason):
    log = await case.log({"a.dat": case.server.store(DATA), "b.dat": case.server.store(DATA + b"\n")}, limits)
    assert not case.is_pointer("a.dat") and case.is_pointer("b.dat")
    assert f"Left 1 of 2 LFS files as pointers, {reason}" in log


async def test_no_more_is_fetched_after_the_time_limit(case):
    log = await case.log({"a.dat": case.server.store(DATA)}, LfsLimits(seconds=0))
    assert case.is_pointer("a.dat") and "because fetching them took longer than 0 seconds: a.dat" in log


@pytest.mark.parametrize(
    ("sent", "reason"),
    [(DATA[:-1], "sent something else"), (DATA + b"x", "sent something else"), (b"x" * len(DATA), "something else")],
)
async def test_an_object_that_differs_from_its_pointer_is_not_used(case, sent, reason):
    log = await case.log({"a.dat": case.server.store(DATA, sent), "b.dat": case.server.store(b"good")})
    assert case.is_pointer("a.dat") and (case.into / "b.dat").read_bytes() == b"good"
    assert reason in log and sorted(path.name for path in case.into.glob(".lfs-*")) == []


@pytest.mark.parametrize(
    ("status", "reason"),
    [(401, "requires a login"), (404, "has no LFS files"), (500, "answered with status 500"), (302, "status 302")],
)
async def test_the_log_says_why_the_server_refused(case, status, reason):
    case.server.status = status
    log = await case.log({"a.dat": case.server.store(DATA)})
    assert case.is_pointer("a.dat") and reason in log


async def test_an_object_that_the_server_does_not_have_is_named(case):
    pointer = case.server.store(DATA)
    case.server.stored.clear()
    assert "Left 1 of 1 LFS files as pointers, because their server does not have them: a.dat" in (
        await case.log({"a.dat": pointer})
    )


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
@pytest.mark.parametrize("redirected", [False, True])
async def test_the_server_cannot_send_the_binder_to_a_private_address(case, unused, host, redirected):
    other = f"http://{host}:{unused}"
    pointer = case.server.store(DATA)
    case.server.links, case.server.moved = (f"{case.server.url}/moved", other) if redirected else (other, "")
    log = await case.log({"a.dat": pointer})
    assert case.is_pointer("a.dat") and "names an address in a private network: a.dat" in log


@pytest.fixture
def unused(unresponsive_server):
    """The port of a server of this machine that must not be contacted; it never answers."""
    return unresponsive_server.rpartition(":")[2]


@pytest.mark.parametrize("named", ["http://127.0.0.1:{port}/lfs", "http://169.254.169.254/", "file:///etc", "git@x:y"])
async def test_lfsconfig_cannot_name_another_server(case, unused, named):
    files = {".lfsconfig": f"[lfs]\n\turl = {named.format(port=unused)}\n", "a.dat": case.server.store(DATA)}
    log = await case.log(files)
    assert case.is_pointer("a.dat") and case.server.asked == []
    assert "because the repository's .lfsconfig names another server than the repository's: a.dat" in log


async def test_lfsconfig_may_name_the_repositorys_own_server(case):
    await case.log({".lfsconfig": f"[lfs]\n\turl = {case.server.url}/x/info/lfs\n", "a.dat": case.server.store(DATA)})
    assert not case.is_pointer("a.dat") and case.server.asked[0] == "/x/info/lfs/objects/batch"


async def test_a_local_repository_keeps_its_pointers(case):
    log = await case.log({"a.dat": case.server.store(DATA)}, served=False)
    assert case.is_pointer("a.dat") and "because the repository's address is neither http nor https: a.dat" in log


async def test_lfs_files_of_a_submodule_are_fetched_from_its_own_server(case, tmp_path):
    make_repository(tmp_path / "inner", ATTRIBUTES | {"a.dat": case.server.store(DATA)})
    outer = make_repository(tmp_path / "outer", {})
    git("submodule", "add", "-q", f"{case.server.url}/git/inner", "sub", cwd=outer)
    git("commit", "-q", "-a", "-m", "submodule", cwd=outer)
    await fetch(f"{case.server.url}/git/outer", git("rev-parse", "HEAD", cwd=outer), case.into)
    assert (case.into / "sub" / "a.dat").read_bytes() == DATA
    assert git("status", "--porcelain", cwd=case.into) == ""


def test_the_address_of_the_server_follows_from_the_repositorys():
    assert server_of("https://x.org/a/b", "") == "https://x.org/a/b.git/info/lfs"
    assert server_of("https://x.org/a/b.git/", "") == "https://x.org/a/b.git/info/lfs"
    for other in ("http://x.org/a", "https://x.org:8443/a", "https://y.org/a", "https://u:p@x.org/a"):
        with pytest.raises(AddressRefused):
            server_of("https://x.org/a/b", other)


async def test_only_public_addresses_and_the_own_server_are_contacted():
    addresses = Addresses("http://192.168.7.7:3000/a.git/info/lfs", EVERYWHERE)
    for good in ("http://192.168.7.7:3000/x", "https://192.0.1.1/x", "https://x.org/x"):
        addresses.check(good)
    for bad in ("http://192.168.7.7/x", "http://10.0.0.1/", "http://[::ffff:127.0.0.1]/", "ftp://x.org/", "http://"):
        with pytest.raises(AddressRefused):
            addresses.check(bad)
    await addresses.close()


async def test_a_binder_with_rules_contacts_a_private_lfs_server_only_if_they_allow_it():
    server = "http://192.168.7.7:3000/a.git/info/lfs"
    for rules in (make_rules(["192.168.7.7"]), make_rules(networks=["192.168.7.0/24"])):
        Addresses(server, rules).check(server)
    with pytest.raises(AddressRefused):
        Addresses(server, PUBLIC).check(server)
    with pytest.raises(AddressRefused):
        await Addresses("http://localhost/a.git/info/lfs", PUBLIC).resolve("localhost", 80)
    assert await Addresses("http://localhost/a.git/info/lfs", EVERYWHERE).resolve("localhost", 80)
