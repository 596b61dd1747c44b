"""The launched repositories, and stand-ins for their environments.

Most scenarios do not measure builds. So this module can put an environment into the cache, through the product's own
store, without a package index.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from pangeo_binder.builders.base import BuildSettings
from pangeo_binder.builders.venv.builder import VenvBuilder
from pangeo_binder.builders.venv.store import EnvironmentStore
from pangeo_binder.git import GitAccess
from pangeo_binder.model import Environment, Repo, RepoRef, VirtualEnvironment

from .server import SLOW

_GIT = (
    "git",
    "-c",
    "user.name=benchmarks",
    "-c",
    "user.email=benchmarks@example.invalid",
    "-c",
    "commit.gpgsign=false",
)
_SERVER = Path(__file__).with_name("server.py")
_SHEBANG = f"#!{Path(sys.executable).resolve()} -IS\n"  # isolated and without site: three times as fast


STEP = "Step "
"""The beginning of each line that a build of `files` prints."""


def server_program() -> str:
    """Return the trivial server as an executable file's text."""
    return _SHEBANG + _SERVER.read_text()


def files(slow_seconds: float = 0, log_lines: int = 0, log_seconds: float = 5) -> dict[str, str]:
    """Return the files of a repository whose server is trivial.

    Its server needs `slow_seconds` to listen; its build prints `log_lines` lines within about `log_seconds`.
    """
    found = {"start": server_program()}
    if slow_seconds:
        found[SLOW] = str(slow_seconds)
    if log_lines:
        found["postBuild"] = (
            "#!/usr/bin/env python3\n"
            "import time\n"
            f"for line in range({log_lines}):\n"
            f"    print(f'{STEP}{{line + 1}}/{log_lines}: a line as builds print them, of usual length', flush=True)\n"
            f"    time.sleep({log_seconds / log_lines})\n"
        )
    return found


def make_repository(folder: Path, contents: dict[str, str]) -> RepoRef:
    """Create a repository with `contents` in one commit, and return its reference."""
    folder.mkdir(parents=True)
    for name, text in contents.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    for command in (["init", "-q", "-b", "main"], ["add", "--all"], ["commit", "-q", "-m", "Benchmark"]):
        subprocess.run([*_GIT, *command], cwd=folder, check=True, capture_output=True)
    return RepoRef("git", folder.as_uri(), "HEAD")


def commit_of(ref: RepoRef) -> Repo:
    """Return the repository at its newest commit."""
    folder = ref.url.removeprefix("file://")
    found = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, check=True, capture_output=True, text=True)
    return Repo(ref, found.stdout.strip())


def builder(cache: Path) -> VenvBuilder:
    """Return a builder that gives environments the same ids as the binder's."""
    return VenvBuilder(BuildSettings(cache_dir=cache, git=GitAccess(allow_local=True)))


def put_environment(ref: RepoRef, cache: Path) -> Environment:
    """Put an empty environment for `ref` into the binder's cache, and return it."""
    repo = commit_of(ref)
    id_, store = builder(cache).environment_id(repo), EnvironmentStore(cache)
    venv, checkout = store.path(id_) / "venv", store.path(id_) / "checkout"
    python = Path(sys.executable).resolve()
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    (venv / "lib" / version / "site-packages").mkdir(parents=True)
    (venv / "bin").mkdir()
    (venv / "bin" / "python").symlink_to(python)
    (venv / "pyvenv.cfg").write_text(f"home = {python.parent}\ninclude-system-site-packages = false\n")
    folder = ref.url.removeprefix("file://")
    shutil.copytree(folder, checkout, ignore=shutil.ignore_patterns(".git"))
    start = ("./start",) if (checkout / "start").exists() else ()
    environment = VirtualEnvironment(id_, str(venv), str(checkout), start)
    store.finish(environment)
    return environment
