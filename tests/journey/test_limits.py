"""Launches that reach a limit: full seats, a denied repository, an endless build, a full disk, Ctrl-C."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.stack.local import LocalStack, Session, until
from tests.stack.remains import half_made, remains, wait_until_restored
from tests.stack.repository import repository

pytestmark = [pytest.mark.stack, pytest.mark.timeout(400)]

QUEUE_SECONDS, BUILD_SECONDS = 15, 20
POLICY = """
tiers:
  small:
    server: {cpu: 1, memory: 1G, idle: 10m, max_age: 1h}
    dask: none
    storage: none
rules:
  - {repo: "git/file:///*/banned", deny: "This repository is not allowed here."}
  - {repo: "git/file:///*", tier: small, servers: 1}
  - {repo: "*", tier: small}
"""
DISK_BYTES, ROOM_BYTES = 4 << 30, 3 << 20
ENDLESS = "#!/bin/sh\necho waiting\n(sleep 4711 &)\nsetsid sleep 4712 &\nsleep 4713\n"


def options(folder: Path, *more: str) -> tuple[str, ...]:
    (folder / "policy.yaml").write_text(POLICY)
    return ("--policy", str(folder / "policy.yaml"), "--queue-seconds", str(QUEUE_SECONDS), *more)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """A stack with one seat and its first example built."""
    folder = tmp_path_factory.mktemp("limits")
    running = LocalStack(folder / "state", *options(folder)).start()
    try:
        running.launch(running.example("minimal")).stop()
        yield running
    finally:
        running.stop()


@pytest.fixture(scope="module")
def short_builds(stack: LocalStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """A stack with a short build timeout; it shares the other stack's cache, so good builds still finish in time."""
    folder = tmp_path_factory.mktemp("short_builds")
    (folder / "state").mkdir()
    (folder / "state" / "cache").symlink_to(stack.state_dir / "cache")
    running = LocalStack(folder / "state", *options(folder, "--build-seconds", str(BUILD_SECONDS))).start()
    try:
        yield running
    finally:
        running.stop()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A separate file system that can be resized at any time."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)]
    tried = subprocess.run(mount, capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"LEFT OUT: needs the right to mount a tmpfs (uid {os.geteuid()}: {tried.stderr.strip()})")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def resize(folder: Path, size: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", str(folder)], check=True)


def endless(folder: Path) -> str:
    return repository(folder, {"postBuild": ENDLESS}, executable=("postBuild",))


def sleepers(stack: LocalStack) -> list[int]:
    """Return the pids of the endless commands in this stack's builds."""
    return [process.pid for process in stack.processes() if process.name() == "sleep"]


def test_a_denied_launch_shows_the_rules_own_message(stack: LocalStack, tmp_path: Path) -> None:
    before = remains(stack)
    last = stack.last_event(repository(tmp_path / "banned", {"README.md": ""}))
    assert (last["phase"], last["reason"]) == ("failed", "not_allowed")
    assert last["message"] == "This repository is not allowed here.\n"
    wait_until_restored(stack, before)


def test_a_launch_without_a_seat_waits_and_names_the_limit(stack: LocalStack) -> None:
    session = stack.launch(stack.example("minimal"))
    before = remains(stack)
    began = time.monotonic()
    events = list(stack.events(stack.example("minimal")))
    assert time.monotonic() - began >= QUEUE_SECONDS
    assert any(event.get("position") == 1 and "number 1 in the queue" in event["message"] for event in events)
    assert (events[-1]["phase"], events[-1]["reason"]) == ("failed", "quota_exceeded")
    assert events[-1]["message"] == "The one seat for git/file:///* is taken.\n"
    assert events[-1]["hint"]
    wait_until_restored(stack, before)
    session.delete()
    until("the server is gone", lambda: session.user not in stack.servers())


def test_a_waiting_launch_is_admitted_when_a_seat_is_free(stack: LocalStack) -> None:
    first = stack.launch(stack.example("minimal"))
    with ThreadPoolExecutor(1) as other:
        waiting = other.submit(lambda: list(stack.events(stack.example("minimal"))))
        time.sleep(2)
        first.delete()
        events = waiting.result(timeout=120)
    assert any(event.get("position") == 1 for event in events)
    assert events[-1]["phase"] == "ready", events[-1]
    second = Session(stack, events[-1])
    assert set(stack.servers()) == {second.user}
    second.delete()
    until("the server is gone", lambda: not stack.servers())


def test_an_endless_post_build_is_ended_with_all_its_processes(short_builds: LocalStack, tmp_path: Path) -> None:
    before = remains(short_builds)
    *log, last = short_builds.events(endless(tmp_path / "never"))
    assert (last["phase"], last["reason"]) == ("failed", "build_failed")
    assert last["message"] == f"The build took longer than {BUILD_SECONDS}s and was stopped.\n"
    assert "waiting" in "".join(event["message"] for event in log[-8:]), "the log's last lines show the last step"
    wait_until_restored(short_builds, before)
    assert not sleepers(short_builds)


def test_a_build_interrupted_by_ctrl_c_leaves_nothing(short_builds: LocalStack, tmp_path: Path) -> None:
    before, repo = half_made(short_builds.state_dir), endless(tmp_path / "never")
    with ThreadPoolExecutor(1) as other:
        launch = other.submit(lambda: list(short_builds.events(repo)))
        until("the postBuild runs", lambda: sleepers(short_builds), 60)
        short_builds.stop()
        launch.exception(timeout=60)
    assert not short_builds.processes() and not sleepers(short_builds)
    short_builds.start()
    # the stack may be building its first example; what the interrupted build left would stay
    until("nothing of the build is left", lambda: half_made(short_builds.state_dir) <= before, 60)
    session = short_builds.launch(short_builds.example("minimal"))
    assert session.request("api/status").status == 200
    session.delete()
    until("the server is gone", lambda: not short_builds.servers())


def test_a_full_disk_during_a_build_is_reported(small_disk: Path, tmp_path: Path) -> None:
    stack = LocalStack(small_disk / "state", *options(tmp_path)).start()
    try:
        session = stack.launch(stack.example("minimal"))
        session.delete()
        until("the server is gone", lambda: not stack.servers())
        before = remains(stack)
        repo = repository(tmp_path / "large", {"requirements.txt": "sympy==1.13.3\n"})
        for event in stack.events(repo):
            if event["message"].startswith("Fetching "):
                resize(small_disk, shutil.disk_usage(small_disk).used + ROOM_BYTES)
        assert (event["phase"], event["message"]) == ("failed", "This binder's disk is full.\n"), event
        resize(small_disk, DISK_BYTES)
        wait_until_restored(stack, before)
        assert stack.launch(repo).request("api/status").status == 200
    finally:
        stack.stop()
