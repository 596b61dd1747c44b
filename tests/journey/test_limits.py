"""Launches that meet a limit: no room, a denied repository, a build that never ends, a build cut short by Ctrl-C."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.stack.local import LocalStack, until
from tests.stack.remains import half_made, remains, until_as_before
from tests.stack.repository import repository

pytestmark = [pytest.mark.stack, pytest.mark.timeout(400)]

LINE_SECONDS, BUILD_SECONDS = 12, 25
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
NEVER_ENDS = "#!/bin/sh\necho waiting\n(sleep 4711 &)\nsetsid sleep 4712 &\nsleep 4713\n"


def options(folder: Path) -> tuple[str, ...]:
    (folder / "policy.yaml").write_text(POLICY)
    limits = ("--line-seconds", str(LINE_SECONDS), "--build-seconds", str(BUILD_SECONDS))
    return ("--policy", str(folder / "policy.yaml"), *limits)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """A stack with room for one, its first example built."""
    folder = tmp_path_factory.mktemp("limits")
    running = LocalStack(folder / "state", *options(folder)).start()
    try:
        running.launch(running.example("minimal")).stop()
        yield running
    finally:
        running.stop()


def never_ending(folder: Path) -> str:
    return repository(folder, {"postBuild": NEVER_ENDS}, executable=("postBuild",))


def test_a_denied_repository_is_told_the_rules_own_sentence(stack: LocalStack, tmp_path: Path) -> None:
    before = remains(stack)
    last = stack.last_event(repository(tmp_path / "banned", {"README.md": ""}))
    assert (last["phase"], last["reason"]) == ("failed", "not_allowed")
    assert last["message"] == "This repository is not allowed here.\n"
    until_as_before(stack, before)


def test_where_there_is_no_room_one_waits_and_is_told_which_limit(stack: LocalStack) -> None:
    session = stack.launch(stack.example("minimal"))
    before = remains(stack)
    began = time.monotonic()
    events = list(stack.events(stack.example("minimal")))
    assert time.monotonic() - began >= LINE_SECONDS
    assert any(event.get("place") == 1 and "number 1 in line" in event["message"] for event in events)
    assert (events[-1]["phase"], events[-1]["reason"]) == ("failed", "quota_exceeded")
    assert events[-1]["message"] == "The one place for git/file:///* is taken.\n"
    assert events[-1]["hint"]
    until_as_before(stack, before)
    session.delete()
    until("the server is gone", lambda: session.user not in stack.servers())


def test_who_waits_is_let_in_when_somebody_leaves(stack: LocalStack) -> None:
    first = stack.launch(stack.example("minimal"))
    with ThreadPoolExecutor(1) as other:
        waiting = other.submit(lambda: list(stack.events(stack.example("minimal"))))
        time.sleep(2)
        first.delete()
        events = waiting.result(timeout=120)
    assert any(event.get("place") == 1 for event in events)
    assert events[-1]["phase"] == "ready", events[-1]
    user = events[-1]["url"].rstrip("/").rsplit("/", 1)[-1]
    assert set(stack.servers()) == {user}


def test_a_post_build_that_never_ends_is_ended_with_all_its_processes(tmp_path: Path) -> None:
    """On a stack of its own, so that no place is taken."""
    stack = LocalStack(tmp_path / "state", *options(tmp_path)).start()
    try:
        stack.launch(stack.example("minimal")).stop()
        before = remains(stack)
        last = stack.last_event(never_ending(tmp_path / "never"))
        assert (last["phase"], last["reason"]) == ("failed", "build_failed")
        assert last["message"] == f"The build took longer than {BUILD_SECONDS}s and was ended.\n"
        until_as_before(stack, before)
    finally:
        stack.stop()
    assert not sleepers(stack)


def test_a_build_cut_short_by_ctrl_c_leaves_nothing(tmp_path: Path) -> None:
    stack = LocalStack(tmp_path / "state").start()
    repo = never_ending(tmp_path / "never")
    with ThreadPoolExecutor(1) as other:
        told = other.submit(lambda: [event["phase"] for event in stack.events(repo)])
        until("the postBuild runs", lambda: sleepers(stack), 90)
        stack.process.send_signal(signal.SIGINT)
        stack.process.wait(timeout=60)
        told.exception(timeout=60)
    assert not sleepers(stack)
    stack.start()
    try:
        until("what was half made is gone", lambda: not half_made(stack.state_dir) or stack.servers() is None, 60)
        assert stack.launch(stack.example("minimal")).request("api/status").status == 200
    finally:
        stack.stop()


def sleepers(stack: LocalStack) -> list[int]:
    """The never-ending commands of this stack's builds."""
    commands = (process for process in stack.processes() if process.name() == "sleep")
    return [process.pid for process in commands]
