"""The command `up`: what it prints, where it listens, and how it cleans up after a kill."""

from __future__ import annotations

import signal
import stat
from pathlib import Path

import pytest

from tests.stack.local import LocalStack, request, until

pytestmark = [pytest.mark.stack, pytest.mark.timeout(400)]


@pytest.fixture
def stack(tmp_path: Path) -> LocalStack:
    return LocalStack(tmp_path / "state")


def test_the_next_up_cleans_up_after_a_killed_one(stack: LocalStack) -> None:
    stack.start()
    session = stack.launch(stack.example("minimal"))
    until("its cluster runs", session.clusters, 60)
    left = {process.pid for process in (*stack.processes(), *stack.processes(session.id))}
    stack.process.send_signal(signal.SIGKILL)
    stack.process.wait(timeout=10)
    left.discard(stack.process.pid)
    assert session.request("api/status").status == 200, "the session itself was not killed"
    stack.start()
    try:
        assert "left by an earlier run" in stack.output.read_text()
        now = {process.pid for process in (*stack.processes(), *stack.processes(session.id))}
        assert not left & now
        assert stack.servers() == {}
        assert stack.launch(stack.example("minimal")).request("api/status").status == 200
    finally:
        stack.stop()
    assert not stack.processes()


def test_up_prints_all_addresses_and_answers(stack: LocalStack) -> None:
    stack.start()
    try:
        output = stack.output.read_text()
        for part in (stack.url, "v2/git/", "[![", "badge", str(stack.state_dir)):
            assert part in output.replace("\n", "")
        for path in ("health", "versions", "metrics"):
            assert request(f"{stack.url}{path}").status == 200
        assert stat.S_IMODE((stack.state_dir / "values.json").stat().st_mode) == 0o600
        until(
            "the first example is built",
            lambda: list(stack.state_dir.glob("cache/environments/*/environment.json")),
            120,
        )
    finally:
        stack.stop()


def test_everything_listens_only_on_loopback(stack: LocalStack) -> None:
    stack.start()
    try:
        listening = [
            connection.laddr.ip
            for process in stack.processes()
            for connection in process.net_connections("inet")
            if connection.status == "LISTEN"
        ]
        assert len(listening) >= 8
        assert set(listening) == {"127.0.0.1"}
    finally:
        stack.stop()
