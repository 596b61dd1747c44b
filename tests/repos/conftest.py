"""A real git repository and real git servers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.repos.gitrepo import git, make_repository
from tests.repos.gitserver import git_server, unresponsive_server

__all__ = ["git_server", "unresponsive_server"]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with the branches main, dev and feature/sea, the tag v1 and the annotated tag v2."""
    path = make_repository(tmp_path / "sea", {"readme.md": "sea\n"})
    for args in (("branch", "dev"), ("branch", "feature/sea"), ("tag", "v1")):
        git(*args, cwd=path)
    git("commit", "-q", "--allow-empty", "-m", "second", cwd=path)
    git("tag", "-a", "v2", "-m", "annotated", cwd=path)
    return path
