"""Environments on disk: ready or not found, locked by the living, pruned when old."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pangeo_binder.builders.venv.store import EnvironmentStore
from pangeo_binder.command import BUILD_MARK
from pangeo_binder.model import Environment, VirtualEnvironment


@pytest.fixture
def store(tmp_path: Path) -> EnvironmentStore:
    return EnvironmentStore(tmp_path)


def ready(store: EnvironmentStore, id_: str, size: int = 1000, used_seconds_ago: float = 0) -> Environment:
    place = store.path(id_)
    place.mkdir(parents=True)
    (place / "file").write_bytes(b"x" * size)
    environment = VirtualEnvironment(id_, str(place / "venv"), str(place / "checkout"), ("./start",))
    store.finish(environment)
    when = time.time() - used_seconds_ago
    os.utime(place / "environment.json", (when, when))
    return environment


def test_finds_what_is_ready_and_nothing_else(store):
    environment = ready(store, "a")
    store.path("half").mkdir()
    assert store.find("a") == environment
    assert store.find("half") is None and store.find("none") is None
    (store.path("a") / "environment.json").write_text("{")
    assert store.find("a") is None


def test_finding_notes_the_use(store):
    ready(store, "a", used_seconds_ago=5000)
    store.find("a")
    assert store.stored()[0].used > time.time() - 60


def test_prunes_the_least_recently_used_first(store):
    for number, id_ in enumerate("abcd"):
        ready(store, id_, used_seconds_ago=5000 - number)
    assert store.prune({"b"}, max_bytes=2500, max_age_seconds=1e6) == ["a", "c"]
    assert [each.id for each in store.stored()] == ["b", "d"]


def test_prunes_what_is_old_but_neither_kept_nor_just_used(store):
    ready(store, "old", used_seconds_ago=5000)
    ready(store, "kept", used_seconds_ago=5000)
    ready(store, "fresh")
    assert store.prune({"kept"}, max_bytes=0, max_age_seconds=100) == ["old"]


def test_removes_what_a_build_made_read_only(store):
    environment = ready(store, "a")
    folder = store.path("a") / "closed"
    folder.mkdir()
    (folder / "file").touch()
    folder.chmod(0o500)
    store.remove(environment.id)
    assert not store.path("a").exists()


def test_unfinished_go_with_their_processes_unless_somebody_builds_them(store):
    for id_ in ("dead", "living"):
        store.path(id_).mkdir(parents=True)
    ready(store, "ready")
    env = {**os.environ, BUILD_MARK: str(store.path("dead"))}
    orphan = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"], env=env)
    with store.lock("living") as free, store.lock("living") as free_again:
        assert free and not free_again
        assert store.prune_unfinished() == 1
    assert orphan.wait(10) != 0
    assert not store.path("dead").exists() and store.path("living").exists() and store.find("ready")
