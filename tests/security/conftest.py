"""Fixtures for attacks: a real stack, and two sessions, an attacker and a victim."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stack.local import LocalStack, Session
from tests.stack.repository import repository

POLICY = """
tiers:
  small:
    server: {cpu: 1, memory: 1G, idle: 1h, max_age: 2h}
    dask:
      {clusters: 1, workers: 2, cores: 2, memory: 2G, worker: {cores: 1, memory: 1G}, idle: 10m, start: ready}
    storage: {scratch: 1G, keep: 1d}
  bare:
    server: {cpu: 1, memory: 1G, idle: 1h, max_age: 2h}
    dask: none
    storage: none
rules:
  - {repo: "git/file:///*/dask", tier: small}
  - {repo: "git/file:///*/one-each", tier: bare, per_network: 1}
  - {repo: "*", tier: bare}
"""


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("security")


@pytest.fixture(scope="session")
def stack(folder: Path) -> Iterator[LocalStack]:
    """The local profile with the policy above and without a queue."""
    (folder / "policy.yaml").write_text(POLICY)
    options = ("--policy", str(folder / "policy.yaml"), "--queue-seconds", "0")
    running = LocalStack(folder / "state", *options).start()
    yield running
    running.stop()
    assert not running.processes(), "processes of the stack were left behind"


@pytest.fixture(scope="session")
def attacker(stack: LocalStack, folder: Path) -> Session:
    return stack.launch(repository(folder / "dask", {"requirements.txt": ""}))


@pytest.fixture(scope="session")
def victim(stack: LocalStack, attacker: Session) -> Session:
    """Another launch of the same repository."""
    return stack.launch((attacker.stack.state_dir.parent / "dask").as_uri())
