"""A real git repository and real git servers."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pangeo_binder import peers
from tests.repos.gitrepo import git, make_repository
from tests.repos.gitserver import git_server, unresponsive_server

__all__ = ["git_server", "unresponsive_server"]


@pytest.fixture(autouse=True)
def no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """Repeat a request that failed quickly at once."""
    monkeypatch.setattr(peers, "_WAIT_SECONDS", 0)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with the branches main, dev and feature/sea, the tag v1 and the annotated tag v2."""
    path = make_repository(tmp_path / "sea", {"readme.md": "sea\n"})
    for args in (("branch", "dev"), ("branch", "feature/sea"), ("tag", "v1")):
        git(*args, cwd=path)
    git("commit", "-q", "--allow-empty", "-m", "second", cwd=path)
    git("tag", "-a", "v2", "-m", "annotated", cwd=path)
    return path


@pytest.fixture
def git_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """Record the gits that our code starts from now on; this returns the arguments of each so far."""
    log, program = tmp_path / "log", tmp_path / "bin" / "git"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$*" >> {log}\nexec {shutil.which("git")} "$@"\n')
    program.chmod(0o755)
    log.touch()
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    return lambda: log.read_text().splitlines()
