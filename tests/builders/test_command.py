"""Test that commands end in time with all their child processes, and that their output is clean lines."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import aclosing, suppress
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from pangeo_binder.command import (
    BUILD_MARK,
    LINE_CHARACTERS,
    Command,
    CommandFailed,
    CommandTimedOut,
    LineSplitter,
    capture,
    inherited,
    stream,
)
from tests.stack.escaped import Escaped
from tests.stack.local import until

pytestmark = pytest.mark.processes


@pytest.fixture
def run(tmp_path: Path):
    def command(script: str, timeout_seconds: float = 30) -> Command:
        env = {"PATH": os.environ["PATH"], BUILD_MARK: str(tmp_path)}
        return Command(("/bin/sh", "-c", script), env, tmp_path, timeout_seconds)

    return command


def marked(tmp_path: Path) -> list[str]:
    """Return the command lines of processes that carry this test's mark."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(BUILD_MARK) == str(tmp_path):
                found.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return found


@pytest.mark.parametrize(
    ("chunks", "lines"),
    [
        ([b"a\nb", b"c\n"], ["a", "bc"]),
        ([b"\x1b[1;31mred\x1b[0m\n\x1b]0;title\x07x\n"], ["red", "x"]),
        ([b"10%\r50%\r100%\r\n"], ["100%"]),
        (["ä".encode()[:1], "ä".encode()[1:] + b"\n"], ["ä"]),
        ([b"x" * 9999 + b"\ny\n"], ["x" * LINE_CHARACTERS, "y"]),
        ([b"\xff\x00\n"], ["�"]),
        ([b"no newline"], ["no newline"]),
    ],
)
def test_cuts_output_into_clean_lines(chunks, lines):
    splitter = LineSplitter()
    assert [line for chunk in chunks for line in splitter.feed(chunk)] + splitter.flush() == lines


def test_memory_for_an_endless_line_is_bounded():
    splitter = LineSplitter()
    for _ in range(100):
        assert splitter.feed(b"x" * 65536) == []
    assert len(splitter.flush()[0]) == LINE_CHARACTERS


async def test_streams_stdout_and_stderr_and_fails_with_the_exit_code(run):
    lines = []
    with pytest.raises(CommandFailed) as caught:
        async for line in stream(run("echo out; echo err >&2; exit 3")):
            lines.append(line)
    assert caught.value.code == 3 and set(caught.value.tail) == set(lines) == {"out", "err"}


async def test_kills_the_process_tree_at_the_time_limit(run, tmp_path):
    with pytest.raises(CommandTimedOut):
        async for _ in stream(
            run("sleep 101 & setsid sleep 102 & setsid sh -c 'sleep 103 & exec sleep 104' & wait", 1)
        ):
            pass
    assert marked(tmp_path) == []


async def test_background_processes_end_with_their_command(run, tmp_path):
    lines = [line async for line in stream(run("setsid sleep 101 & echo done"))]
    assert lines == ["done"] and marked(tmp_path) == []


@pytest.mark.skipif(sys.platform != "linux", reason="LEFT OUT: only Linux gives orphans to a launcher")
@pytest.mark.parametrize("end", ["by itself", "by failing", "in time", "closed"])
async def test_a_launcher_ends_what_detached_without_a_mark(run, tmp_path, end):
    escaped, seen = Escaped(), tmp_path / "seen"
    last = {"by itself": "true", "by failing": "exit 3"}.get(end, "sleep 101")
    seconds = 5 if end == "in time" else 30
    wait = f"while [ ! -e {seen} ]; do sleep 0.05; done"
    command = replace(run(f"{escaped.command}; echo started; {wait}; {last}", seconds), launched=True)
    try:
        async with aclosing(stream(command)) as lines:
            assert await anext(lines) == "started"
            await asyncio.to_thread(until, "what was forked has become its program", escaped.runs, 20)
            seen.touch()
            if end != "closed":
                with suppress(CommandFailed, CommandTimedOut):
                    assert [line async for line in lines] == []
        assert not escaped.runs()
    finally:
        escaped.end()


async def test_a_launcher_passes_the_exit_code_on(run):
    with pytest.raises(CommandFailed) as caught:
        async for _ in stream(replace(run("exit 3"), launched=True)):
            pass
    assert caught.value.code == 3


async def test_closing_and_cancelling_kill_the_process_tree(run, tmp_path):
    async with aclosing(stream(run("echo a; setsid sleep 101 & sleep 102"))) as lines:
        assert await anext(lines) == "a"
    assert marked(tmp_path) == []
    task = asyncio.create_task(capture(run("setsid sleep 101 & sleep 102")))
    await asyncio.sleep(0.5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert marked(tmp_path) == []


async def test_unread_output_does_not_block_the_end_of_a_command(run, tmp_path):
    async with aclosing(stream(run("yes"))) as lines:
        assert await anext(lines) == "y"
    assert marked(tmp_path) == []


def test_commands_inherit_no_secrets(monkeypatch):
    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", "secret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    assert "secret" not in inherited().values() and "PATH" in inherited()
