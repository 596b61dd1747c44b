"""A real stack whose tiers have two small clusters, one created with the session, or none; and sessions of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stack.local import LocalStack, Session
from tests.stack.repository import repository

POLICY = """
tiers:
  two:
    server: {cpu: 1, memory: 1G, idle: 1h, max_age: 2h}
    dask:
      {clusters: 2, workers: 4, cores: 4, memory: 4G, worker: {cores: 2, memory: 1G}, idle: 10m, start: none}
    storage: {scratch: 1G, keep: 1d}
  one:
    server: {cpu: 1, memory: 1G, idle: 1h, max_age: 2h}
    dask:
      {clusters: 1, workers: 2, cores: 2, memory: 2G, worker: {cores: 1, memory: 1G}, idle: 10m, start: ready}
    storage: none
  none:
    server: {cpu: 1, memory: 1G, idle: 1h, max_age: 2h}
    dask: none
    storage: none
rules:
  - {repo: "git/file:///*/without", tier: none}
  - {repo: "git/file:///*/one", tier: one}
  - {repo: "*", tier: two}
"""


@pytest.fixture(scope="package")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gateway")


@pytest.fixture(scope="package")
def stack(folder: Path) -> Iterator[LocalStack]:
    """The local profile with the policy above."""
    (folder / "policy.yaml").write_text(POLICY)
    running = LocalStack(folder / "state", "--policy", str(folder / "policy.yaml")).start()
    yield running
    running.stop()


def launched(stack: LocalStack, folder: Path) -> Session:
    return stack.launch(repository(folder, {"requirements.txt": "", "README.md": folder.name}))


@pytest.fixture(scope="package")
def session(stack: LocalStack, folder: Path) -> Session:
    return launched(stack, folder / "with")


@pytest.fixture(scope="package")
def other(stack: LocalStack, session: Session) -> Session:
    """Another launch of the same repository."""
    return stack.launch((session.stack.state_dir.parent / "with").as_uri())


@pytest.fixture(scope="package")
def one(stack: LocalStack, folder: Path) -> Session:
    """A session whose tier has one cluster, created with it."""
    return launched(stack, folder / "one")


@pytest.fixture(scope="package")
def without(stack: LocalStack, folder: Path) -> Session:
    """A session whose tier has no Dask."""
    return launched(stack, folder / "without")
