"""The logs of a stack: bounded in size and number, and those that write them notice nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pangeo_binder.local import logs as module
from pangeo_binder.local.logs import bound_logs


@pytest.fixture
def servers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of servers' logs, in which few are kept."""
    monkeypatch.setattr(module, "SERVER_LOGS", 3)
    monkeypatch.setattr(module, "SERVER_LOG_BYTES", 10)
    monkeypatch.setattr(module, "STACK_LOG_BYTES", 10)
    folder = tmp_path / "servers"
    folder.mkdir()
    return folder


def test_a_large_log_is_rotated_while_its_process_writes(tmp_path: Path, servers: Path) -> None:
    log = tmp_path / "stack.log"
    with log.open("ab", buffering=0) as process:
        process.write(b"old lines\n0123456789")
        bound_logs(log, servers)
        process.write(b"next\n")
    assert (log.read_bytes(), (tmp_path / "stack.log.1").read_bytes()) == (b"next\n", b"0123456789")


def test_a_small_log_stays(tmp_path: Path, servers: Path) -> None:
    log = tmp_path / "stack.log"
    bound_logs(log, servers)
    log.write_bytes(b"0123456789")
    bound_logs(log, servers)
    assert log.read_bytes() == b"0123456789" and not (tmp_path / "stack.log.1").exists()


def test_only_the_newest_logs_of_servers_stay(tmp_path: Path, servers: Path) -> None:
    for number in range(6):
        (servers / f"{number}.log").write_bytes(b"x" * (30 if number == 4 else 3))
        os.utime(servers / f"{number}.log", (number, number))
    bound_logs(tmp_path / "stack.log", servers)
    assert {each.name: each.stat().st_size for each in servers.iterdir()} == {
        "3.log": 3, "4.log": 0, "4.log.1": 10, "5.log": 3
    }  # fmt: skip
    bound_logs(tmp_path / "stack.log", servers)
    assert len(list(servers.iterdir())) == 3


def test_what_is_no_log_is_not_read(tmp_path: Path, servers: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(b"x" * 30)
    (servers / "link.log").symlink_to(tmp_path / "elsewhere")
    os.mkfifo(servers / "pipe.log")
    bound_logs(tmp_path / "stack.log", servers)
    assert (tmp_path / "elsewhere").read_bytes() == b"x" * 30
