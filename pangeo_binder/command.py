"""Runs one command as a bounded process: a time limit, an environment given in full, and no process left behind.

Output comes as clean lines (`stream`) or whole (`capture`). Used by the binder for git, uv and `postBuild`; not for
servers and clusters, which outlive their starter (see `processes`).
"""

from __future__ import annotations

import asyncio
import codecs
import os
import re
import signal
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from .errors import PangeoBinderError
from .local.processes import STATE_DIR

BUILD_MARK = "PANGEO_BINDER_BUILD"
"""The environment variable by which a build's processes are found, even those that left its process group."""

LINE_CHARACTERS = 4096
"""No line of a log is longer; what is over is left out."""

_INHERITED = (
    *("PATH", "LANG", "TZ", STATE_DIR),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT", "GIT_SSL_CAINFO"),
    *("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"),
)
_TAIL_LINES = 200
_CHUNK_BYTES = 65536
_LOOK_SECONDS = 0.25
_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Command:
    """A command, everything it may see, and how long it may take."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    """The whole environment; nothing is inherited."""
    cwd: Path
    timeout_seconds: float

    def __repr__(self) -> str:
        return f"Command({' '.join(self.argv)})"


@dataclass(frozen=True, slots=True)
class Captured:
    """What a command that ended by itself left."""

    code: int
    out: str
    err: str


class CommandFailed(PangeoBinderError):
    """A command ended with `code`, which is not zero; `tail` holds its last lines."""

    def __init__(self, code: int, tail: tuple[str, ...]) -> None:
        super().__init__(f"ended with exit code {code}")
        self.code = code
        self.tail = tail


class CommandTimedOut(PangeoBinderError):
    """A command was ended because its time was up."""


def inherited(*names: str) -> dict[str, str]:
    """Return what commands may know of this process's environment: the way to programs and to the network, and `names`.

    An allow-list, because the rest holds tokens and keys.
    """
    return {name: os.environ[name] for name in (*_INHERITED, *names) if name in os.environ}


class LineCutter:
    """Cuts bytes into lines for people: no ANSI codes, of a line rewritten with `\\r` the last state, none too long."""

    def __init__(self) -> None:
        self._decode: Callable[..., str] = codecs.getincrementaldecoder("utf-8")(errors="replace").decode
        self._rest = ""

    def feed(self, chunk: bytes) -> list[str]:
        """Return the lines that are whole now."""
        *whole, rest = (self._rest + self._decode(chunk)).split("\n")
        # a progress bar without end must not grow in memory: only its last state counts
        self._rest = rest.rpartition("\r")[2] if len(rest) > LINE_CHARACTERS and "\r" in rest[:-1] else rest
        self._rest = self._rest[: 4 * LINE_CHARACTERS]
        return [self._clean(line) for line in whole]

    def flush(self) -> list[str]:
        """Return what stood after the last newline, if anything."""
        rest, self._rest = self._rest + self._decode(b"", final=True), ""
        return [self._clean(rest)] if rest.strip() else []

    @staticmethod
    def _clean(line: str) -> str:
        shown = _ANSI.sub("", line).rstrip("\r").rpartition("\r")[2]
        return _CONTROL.sub("", shown)[:LINE_CHARACTERS]


def end_marked(mark: str) -> int:
    """Kill every process of this user that carries the build mark `mark`; return how many there were."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(BUILD_MARK) == mark:
                process.kill()
                found.append(process)
        except (psutil.Error, OSError):
            continue
    # our own children are waited for by who started them: a second waiter would take their exit codes
    psutil.wait_procs([process for process in found if not _is_child(process)], timeout=5)
    return len(found)


def _is_child(process: psutil.Process) -> bool:
    try:
        return bool(process.ppid() == os.getpid())
    except psutil.Error:
        return False


async def _start(command: Command, stderr: int) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *command.argv,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=stderr,
        env=dict(command.env),
        cwd=command.cwd,
        start_new_session=True,
    )


def _kill(process: asyncio.subprocess.Process, command: Command) -> None:
    """Kill the command's process group, and what left the group but carries the mark."""
    with suppress(ProcessLookupError, PermissionError):  # macOS answers EPERM where only zombies are left
        os.killpg(process.pid, signal.SIGKILL)
    if mark := command.env.get(BUILD_MARK):
        end_marked(mark)


async def _chunks(process: asyncio.subprocess.Process, command: Command) -> AsyncGenerator[bytes, None]:
    """Yield output until its end; a child that keeps the pipe open after the command's own end is killed for it."""
    assert process.stdout is not None
    deadline = time.monotonic() + command.timeout_seconds
    read = asyncio.ensure_future(process.stdout.read(_CHUNK_BYTES))
    try:
        while True:
            done, _ = await asyncio.wait({read}, timeout=_LOOK_SECONDS)
            if done:
                if not (chunk := read.result()):
                    return
                yield chunk
                read = asyncio.ensure_future(process.stdout.read(_CHUNK_BYTES))
            elif process.returncode is not None:
                _kill(process, command)
            if time.monotonic() > deadline:
                raise CommandTimedOut(f"{command.argv[0]} took longer than {command.timeout_seconds:.0f} s")
    finally:
        read.cancel()


async def _end(process: asyncio.subprocess.Process, command: Command) -> None:
    """Kill what is left, and read the pipe to its end so that nothing of the process stays open."""
    _kill(process, command)
    assert process.stdout is not None
    await asyncio.sleep(0)  # lets a cancelled read leave the stream
    while await process.stdout.read(_CHUNK_BYTES):
        pass
    await process.wait()


async def stream(command: Command) -> AsyncGenerator[str, None]:
    """Run `command` and yield its lines, standard output and error as they come.

    Raises CommandFailed or CommandTimedOut. However it ends (closing and cancelling too), no process of it is left.
    """
    process = await _start(command, asyncio.subprocess.STDOUT)
    cutter, tail = LineCutter(), deque[str](maxlen=_TAIL_LINES)
    chunks = _chunks(process, command)
    try:
        async for chunk in chunks:
            for line in cutter.feed(chunk):
                tail.append(line)
                yield line
        for line in cutter.flush():
            tail.append(line)
            yield line
        remaining = command.timeout_seconds
        code = await asyncio.wait_for(process.wait(), remaining)
    except TimeoutError:
        raise CommandTimedOut(f"{command.argv[0]} closed its output but did not end") from None
    finally:
        await chunks.aclose()
        await _end(process, command)
    if code:
        raise CommandFailed(code, tuple(tail))


async def capture(command: Command) -> Captured:
    """Run `command` and return what it wrote and how it ended. Raises CommandTimedOut."""
    process = await _start(command, asyncio.subprocess.PIPE)
    try:
        async with asyncio.timeout(command.timeout_seconds):
            out, err = await process.communicate()
    except TimeoutError:
        raise CommandTimedOut(f"{command.argv[0]} took longer than {command.timeout_seconds:.0f} s") from None
    finally:
        if process.returncode is None:
            _kill(process, command)
            await process.communicate()
    return Captured(process.returncode or 0, out.decode(errors="replace"), err.decode(errors="replace"))
