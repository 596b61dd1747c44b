"""Builders that share uv's cache, so that uv downloads each package once per run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pangeo_binder.builders.base import Builder, BuildSettings
from pangeo_binder.git import GitAccess
from pangeo_binder.model import Environment, Repo, RepoRef
from tests.repos.gitrepo import git, make_repository
from tests.repos.gitserver import git_server, unresponsive_server
from tests.repos.lfsserver import lfs_server

__all__ = ["git_server", "lfs_server", "unresponsive_server"]


@pytest.fixture(scope="session")
def downloads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that all cache directories of this run share: uv's cache and the session's wheel."""
    folder = tmp_path_factory.mktemp("downloads")
    for name in ("uv", "session"):
        (folder / name).mkdir()
    return folder


@pytest.fixture
def settings(tmp_path: Path, downloads: Path) -> BuildSettings:
    """Settings with a new cache directory."""
    cache = tmp_path / "cache"
    cache.mkdir()
    for name in ("uv", "session"):
        (cache / name).symlink_to(downloads / name)
    return BuildSettings(cache, git=GitAccess(allow_local=True), min_free_bytes=0)


@pytest.fixture
def repo_of(tmp_path: Path) -> Callable[[dict[str, str]], Repo]:
    """Make a repository with files, and return it at its only commit."""

    def make(files: dict[str, str]) -> Repo:
        path = make_repository(tmp_path / "repos" / str(len(list(tmp_path.glob("repos/*")))), files)
        return Repo(RepoRef("git", str(path), "main"), git("rev-parse", "HEAD", cwd=path))

    return make


@pytest.fixture
def built() -> Callable:
    """Build a repository completely, and return its environment and its log."""

    async def build(builder: Builder, repo: Repo) -> tuple[Environment, str]:
        events = [event async for event in builder.build(repo)]
        assert events[-1].environment is not None
        return events[-1].environment, "\n".join(event.line for event in events)

    return build
