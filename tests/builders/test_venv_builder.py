"""Test real environments made with uv from the package index, and that failed builds leave nothing."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from pangeo_binder.builders.base import BuildEvent, BuildSettings
from pangeo_binder.builders.session_needs import BASE, NEEDS
from pangeo_binder.builders.venv.builder import VenvBuilder
from pangeo_binder.command import BUILD_MARK
from pangeo_binder.errors import BuildFailed, RepoNotFound
from pangeo_binder.events import Phase
from pangeo_binder.git import GitAccess
from pangeo_binder.model import Repo
from pangeo_binder.policy.request import RequestInvalid
from tests.contracts.builder import CORES, LOG_LINE, BuilderBench, BuilderContract
from tests.repos.gitrepo import git

pytestmark = pytest.mark.processes
START = '#!/bin/sh\nexport GREETING=hello\nexec "$@"\n'
PACKAGE = """
[project]
name = "sea"
version = "1"
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
"""


@pytest.fixture
def builder(settings):
    return VenvBuilder(settings)


def output(*argv: str) -> str:
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True)
    return " ".join(done.stdout.split())


def versions(prefix: str, *names: str) -> list[str]:
    code = "import sys; from importlib.metadata import version; print(*map(version, sys.argv[1:]))"
    return output(f"{prefix}/bin/python", "-c", code, *names).split()


def leftovers(settings) -> list[str]:
    """Return the folders in the cache directory and the processes that carry its mark."""
    left = [path.name for path in settings.cache_dir.glob("environments/*")]
    for process in psutil.process_iter():
        try:
            if process.environ().get(BUILD_MARK, "").startswith(str(settings.cache_dir)):
                left.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return left


class VenvBench(BuilderBench):
    """Builders that share one cache directory."""

    failure = "The repository's postBuild failed with exit code 7."

    def __init__(self, settings: BuildSettings, repo_of: Callable[[dict[str, str]], Repo]) -> None:
        self.settings = settings
        self.good = repo_of({"binder/pangeo.yaml": f"server: {{cpu: {CORES}}}\n"})
        self.failing = repo_of({"postBuild": f"#!/bin/sh\necho {LOG_LINE} >&2\nexit 7\n"})
        self.endless = repo_of({"postBuild": "echo now\nsetsid sleep 1001 &\nsleep 1002\n"})

    def builder(self) -> VenvBuilder:
        return VenvBuilder(self.settings)

    def is_running(self, event: BuildEvent) -> bool:
        return event.line == "now"

    def left(self) -> list[str]:
        return leftovers(self.settings)


class TestVenvBuilder(BuilderContract):
    """Virtual environments made with uv."""

    @pytest.fixture
    def bench(self, settings: BuildSettings, repo_of: Callable[[dict[str, str]], Repo]) -> VenvBench:
        return VenvBench(settings, repo_of)


async def refusal(builder, repo) -> BuildFailed:
    with pytest.raises(BuildFailed) as caught:
        async for _ in builder.build(repo):
            pass
    assert await builder.find(repo) is None and leftovers(builder.settings) == []
    return caught.value


async def test_pins_are_kept_and_the_session_fits_around_them(builder, repo_of, built):
    repo = repo_of(
        {
            "requirements.txt": "dask==2024.5.0\ntoolz==0.12.1\n",
            "postBuild": "echo made > made.txt\nenv\n",
            "start": START,
            "uv.toml": "offline = true\n",
        }
    )
    environment, log = await built(builder, repo)
    assert versions(environment.prefix, "dask", "toolz", "distributed") == ["2024.5.0", "0.12.1", "2024.5.0"]
    assert (Path(environment.checkout) / "made.txt").read_text() == "made\n"
    assert environment.start == ("./start",) and os.access(Path(environment.checkout) / "start", os.X_OK)
    names = [need.partition(">")[0] for need in (*NEEDS, *BASE)]
    assert len(versions(environment.prefix, *names, "pangeo-binder-session")) == len(names) + 1
    assert not (Path(environment.prefix).parent / "home").exists()
    assert "TOKEN" not in log and f"HOME={environment.checkout}\n" in log


async def test_a_repository_whose_packages_do_not_fit_gets_no_base(builder, repo_of, built):
    repo = repo_of({"requirements.txt": "widgetsnbextension==2.0.0\n"})  # of ipywidgets 6
    environment, log = await built(builder, repo)
    assert "trying without notebook, ipywidgets, jupyter-resource-usage, nbgitpuller" in log
    assert versions(environment.prefix, "widgetsnbextension") == ["2.0.0"]
    assert not list(Path(environment.prefix).glob("lib/python3*/site-packages/ipywidgets"))


async def test_the_session_extension_is_enabled_and_pip_works(builder, repo_of, built):
    environment, _ = await built(builder, repo_of({"binder/.keep": "", "pyproject.toml": PACKAGE}))
    assert "pip " in output(f"{environment.prefix}/bin/python", "-m", "pip", "--version")
    assert "Validating pangeo_binder_session... pangeo_binder_session" in output(
        f"{environment.prefix}/bin/jupyter", "server", "extension", "list"
    )


async def test_installs_the_repository_itself(builder, repo_of, built):
    files = {"pyproject.toml": PACKAGE, "sea/__init__.py": "", "requirements.txt": "toolz\n"}
    environment, _ = await built(builder, repo_of(files))
    assert versions(environment.prefix, "sea")[0] == "1"


async def test_a_version_from_a_tag_is_found_at_build_time(builder, repo_of, built):
    versioned = PACKAGE.replace('version = "1"', 'dynamic = ["version"]').replace('["hatchling"]', '["hatch-vcs"]')
    repo = repo_of({"pyproject.toml": f'{versioned}\n[tool.hatch.version]\nsource = "vcs"\n', "sea/__init__.py": ""})
    folder = Path(repo.ref.url)
    git("tag", "-a", "v1.2", "-m", "v1.2", cwd=folder)
    git("commit", "-q", "--allow-empty", "-m", "second", cwd=folder)
    repo = dataclasses.replace(repo, revision=git("rev-parse", "HEAD", cwd=folder))
    environment, _ = await built(builder, repo)
    assert versions(environment.prefix, "sea")[0].startswith(f"1.3.dev1+g{repo.revision[:7]}")
    assert git("describe", "--dirty", cwd=Path(environment.checkout)).startswith("v1.2-1-g")


async def test_a_second_builder_finds_the_environment_of_the_first(builder, settings, repo_of, built):
    repo = repo_of({})
    one, two = await asyncio.gather(built(builder, repo), built(VenvBuilder(settings), repo))
    assert one[0] == two[0]
    assert sorted(["Installing" in one[1], "Installing" in two[1]]) == [False, True]


@pytest.mark.parametrize(
    ("requirements", "sentence"),
    [
        ("toolz==99.0", "The package index has no version that matches `toolz==99.0`."),
        ("pangeo-binder-no-such-package", "The package index has no package `pangeo-binder-no-such-package`."),
        ("distributed==2024.5.0\ndask==2024.4.0", "`distributed==2024.5.0` and `dask==2024.4.0` conflict"),
        (
            "jupyterlab==2.0.0",
            "The requirement `jupyterlab==2.0.0` conflicts with `jupyterlab>=3`, which every session",
        ),
        ("toolz==", "requirements.txt has a line that is not a valid requirement."),
        ("-r more.txt", "name the file more.txt, which is not in the repository."),
    ],
)
async def test_the_error_names_requirements_that_cannot_be_met(builder, repo_of, requirements, sentence):
    error = await refusal(builder, repo_of({"requirements.txt": requirements}))
    assert sentence in error.message
    assert "\n" not in error.hint, "the log has the lines, and clients that show the hint also show the log"


async def test_the_error_names_a_repositorys_unreachable_index(builder, repo_of):
    error = await refusal(builder, repo_of({"requirements.txt": "--index-url http://127.0.0.1:9/simple\ntoolz"}))
    assert error.message == (
        "The package index 127.0.0.1:9, which requirements.txt names, cannot be reached from this binder."
    )


async def test_an_invalid_request_fails_before_installing(builder, repo_of):
    events = []
    with pytest.raises(RequestInvalid):
        async for event in builder.build(repo_of({"binder/pangeo.yaml": "dask: {workers: many}"})):
            events.append(event)
    assert {event.phase for event in events} == {Phase.FETCHING}


async def test_refuses_a_python_that_is_not_installed_and_lists_the_installed(builder, repo_of):
    error = await refusal(builder, repo_of({"runtime.txt": "python-3.5"}))
    assert "requests Python 3.5, which is not installed" in error.message
    assert f"{sys.version_info.major}.{sys.version_info.minor}" in error.hint


async def test_refuses_files_that_need_more_than_python(builder, repo_of):
    assert "needs a Dockerfile" in (await refusal(builder, repo_of({"Dockerfile": "FROM x"}))).message


async def test_kills_the_process_tree_of_an_endless_post_build(settings, repo_of):
    builder = VenvBuilder(dataclasses.replace(settings, timeout_seconds=8))
    error = await refusal(builder, repo_of({"postBuild": "setsid sleep 1001 &\nsleep 1002\n"}))
    assert "took longer than 8s and" in error.message


async def test_reports_an_index_that_does_not_answer(builder, repo_of, built, monkeypatch):
    await built(builder, repo_of({}))  # makes the session's wheel
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:1/simple")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    (builder.settings.cache_dir / "uv").unlink()
    for folder in builder.settings.cache_dir.glob("environments/*"):
        builder._store.remove(folder.name)
    error = await refusal(builder, repo_of({"requirements.txt": "toolz"}))
    assert "The package index cannot be reached" in error.message


BUILD = """
import asyncio, sys
from pathlib import Path
from pangeo_binder.builders.base import BuildSettings
from pangeo_binder.builders.venv.builder import VenvBuilder
from pangeo_binder.git import GitAccess
from pangeo_binder.policy.request import RequestInvalid
from pangeo_binder.model import Repo, RepoRef

async def main():
    cache, url, commit = sys.argv[1:]
    builder = VenvBuilder(BuildSettings(Path(cache), git=GitAccess(True), min_free_bytes=0))
    async for event in builder.build(Repo(RepoRef("git", url, "main"), commit)):
        print(event.line, flush=True)

asyncio.run(main())
"""


def kill_when_it_prints_now(*argv: str) -> None:
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout and "now\n" in process.stdout
        process.send_signal(signal.SIGKILL)


async def test_find_ignores_what_a_killed_builder_left(builder, settings, repo_of, built):
    repo = repo_of({"postBuild": "[ -e ../../go ] || { echo now; sleep 1002; }\n"})
    kill_when_it_prints_now(sys.executable, "-c", BUILD, str(settings.cache_dir), repo.ref.url, repo.revision)
    assert await builder.find(repo) is None
    assert builder.recover() == 1 and leftovers(settings) == []
    (settings.cache_dir / "environments").mkdir(exist_ok=True)
    (settings.cache_dir / "environments" / "go").touch()
    await built(builder, repo)
    assert await builder.find(repo)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 30 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=30m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False).returncode != 0:
        pytest.skip("only root can mount a small file system, and not everywhere")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


async def test_a_full_disk_is_reported_and_leaves_nothing(settings, repo_of, small_disk):
    builder = VenvBuilder(dataclasses.replace(settings, cache_dir=small_disk))
    assert "disk is full" in (await refusal(builder, repo_of({}))).message


async def test_no_build_starts_without_free_disk(settings, repo_of):
    builder = VenvBuilder(dataclasses.replace(settings, min_free_bytes=1 << 60))
    assert "disk is full" in (await refusal(builder, repo_of({}))).message


async def test_local_repositories_are_read_only_where_allowed(settings, repo_of):
    builder, repo = VenvBuilder(dataclasses.replace(settings, git=GitAccess())), repo_of({})
    with pytest.raises(RepoNotFound, match="no git repository"):
        async for _ in builder.build(repo):
            pass
    assert leftovers(settings) == []
