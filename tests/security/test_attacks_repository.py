"""Attacks by a repository's files while it is resolved, fetched, built and copied into a home."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pangeo_binder.builders.recipe import Recipe, from_json
from pangeo_binder.launch.lookups import ANY_HOST, AT_ONCE, OPERATORS, PER_HOST, SharedLookups
from pangeo_binder.model import RepoRef
from pangeo_binder.repos.git import GitProvider
from tests.repos.gitrepo import git
from tests.stack.local import LocalStack, Session
from tests.stack.repository import repository

pytestmark = pytest.mark.timeout(300)


def detected(folder: Path) -> Recipe:
    command = [sys.executable, "-I", "-m", "pangeo_binder.builders.detect", "3.11"]
    return from_json(subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=60).stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux enforces a process's memory limit")
@pytest.mark.parametrize("name", ["pyproject.toml", "runtime.txt", "binder/runtime.txt"])
def test_an_endless_file_does_not_exhaust_memory(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).symlink_to("/dev/zero")
    assert "too large" in detected(tmp_path).mistake


def test_a_huge_file_does_not_exhaust_memory(tmp_path: Path) -> None:
    with (tmp_path / "pyproject.toml").open("w") as file:
        file.truncate(8 << 30)
    assert detected(tmp_path).mistake


@pytest.mark.parametrize("name", ["requirements.txt", "postBuild", "start"])
def test_links_to_files_outside_are_ignored(tmp_path: Path, name: str) -> None:
    (tmp_path / "outside").write_text("")
    (tmp_path / "repo").mkdir()
    (tmp_path / "repo" / name).symlink_to(tmp_path / "outside")
    assert detected(tmp_path / "repo") == Recipe()


class SlowProvider(GitProvider):
    """A provider that answers slowly and counts concurrent requests."""

    now = most = 0

    async def find_revision(self, ref: RepoRef) -> str:
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0.01)
        self.now -= 1
        return "0" * 40


@pytest.mark.parametrize(
    ("hosts", "kinds", "most"),
    [
        (1, ["git"], PER_HOST),
        (1, ["gh"], PER_HOST),
        (1000, ["git"], ANY_HOST),
        (1000, ["git", "ckan", "dataverse", "doi"], ANY_HOST),
        (0, ["git"], AT_ONCE),
    ],
)
async def test_lookups_have_a_concurrency_limit(hosts: int, kinds: list[str], most: int) -> None:
    """In total, for a host, and for the kinds of links that name any host; folders of this machine have none."""
    provider, lookups = SlowProvider(), SharedLookups()
    urls = [f"https://{number % hosts}.example.org/{number}" if hosts else f"/{number}" for number in range(320)]
    refs = [RepoRef(kinds[number % len(kinds)], url, "HEAD") for number, url in enumerate(urls)]
    found = await asyncio.gather(*(lookups.resolve(provider, ref) for ref in refs))
    assert (len(found), provider.most) == (len(refs), most)


class WedgedProvider(GitProvider):
    """A provider that answers when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = asyncio.Event()

    async def find_revision(self, ref: RepoRef) -> str:
        await self.go_on.wait()
        return "0" * 40


async def test_slow_hosts_of_all_kinds_hold_up_no_other_kind() -> None:
    wedged, lookups = WedgedProvider(), SharedLookups()
    slow = [
        asyncio.create_task(lookups.resolve(wedged, RepoRef(kind, f"https://{number}.example.org/a", "HEAD")))
        for kind in ("git", "ckan", "dataverse", "doi")
        for number in range(100)
    ]
    for kind in sorted(OPERATORS):
        slow += [
            asyncio.create_task(lookups.resolve(wedged, RepoRef(kind, f"https://{kind}.example.net/{number}", "HEAD")))
            for number in range(100 if kind != "gh" else 0)
        ]
    await asyncio.sleep(0)
    async with asyncio.timeout(20):
        await lookups.resolve(SlowProvider(), RepoRef("gh", "https://gh.example.net/a", "HEAD"))
    wedged.go_on.set()
    await asyncio.gather(*slow)


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("outside")


@pytest.fixture(scope="module")
def curious(stack: LocalStack, folder: Path, outside: Path) -> Iterator[Session]:
    """A session of a repository that prints its environment and has a link at a path the hub writes to."""
    root, script = folder / "curious", '#!/bin/sh\nenv > "$REPO_DIR/seen.txt"\n'
    root.mkdir()
    (root / ".session").symlink_to(outside)
    files = {"requirements.txt": "", "deep/.session": "kept", "postBuild": script}
    session = stack.launch(repository(root, files))
    yield session
    session.delete()


@pytest.mark.stack
def test_a_link_at_the_layers_path_is_not_followed(curious: Session, outside: Path) -> None:
    assert not list(outside.iterdir())
    assert Path(curious.environment()["VIRTUAL_ENV"]).is_dir()
    home = Path(curious.environment()["HOME"])
    assert (home / "deep" / ".session").read_text() == "kept"


@pytest.mark.stack
def test_post_build_sees_no_secret(curious: Session) -> None:
    seen = curious.request("files/seen.txt").body.decode()
    assert "REPO_DIR=" in seen
    for word in ("TOKEN", "SECRET", "PASSWORD", "AUTH_SOCK", "JUPYTERHUB"):
        assert word not in seen


SUBMODULES = {
    "ext": ("ext::sh -c touch% {mark}", ""),
    "update": ("./x", "\tupdate = !touch {mark}\n"),
    "option": ("--upload-pack=touch {mark}", ""),
    "ssh": ("ssh://-oProxyCommand=touch${{IFS}}{mark}/x", ""),
}


@pytest.mark.stack
@pytest.mark.parametrize("name", SUBMODULES)
def test_a_submodule_runs_no_command(stack: LocalStack, tmp_path: Path, name: str) -> None:
    url, more = (text.format(mark=tmp_path / "mark") for text in SUBMODULES[name])
    root, repo = tmp_path / "sub", repository(tmp_path / "sub", {"README.md": ""})
    (root / ".gitmodules").write_text(f'[submodule "m"]\n\tpath = m\n\turl = {url}\n{more}')
    git("add", ".gitmodules", cwd=root)
    git("update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},m", cwd=root)
    git("commit", "-q", "-m", "submodule", cwd=root)
    assert "submodule" in stack.last_event(repo)["message"]
    assert not (tmp_path / "mark").exists()


@pytest.mark.stack
def test_a_flood_of_log_lines_does_not_stop_the_binder(stack: LocalStack, folder: Path) -> None:
    script = "#!/bin/sh\nyes | head -c 40000\nhead -c 100000000 /dev/zero | tr '\\0' x\nexit 3\n"
    repo = repository(folder / "flood", {"requirements.txt": "", "postBuild": script})
    assert stack.last_event(repo)["message"] == "The build printed more than this binder reads and was stopped.\n"
    binder = stack.service("pangeo_binder.app")
    assert binder.memory_info().rss < 500e6
    assert stack.page("versions").status == 200
