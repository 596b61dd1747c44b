"""Runs one command with limits of time and output and an explicit environment, and leaves no process behind.

Returns the output as clean lines (`stream`) or complete (`capture`). Strangers decide what commands print, so a command
that exceeds a limit is killed. Used by the binder for git, uv and `postBuild`; not for servers and clusters, which
outlive the process that starts them (see `processes`).
"""

from __future__ import annotations

import asyncio
import codecs
import os
import re
import shutil
import signal
import sys
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import aclosing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from .errors import PangeoBinderError
from .local.lineage import END, with_own_launcher
from .local.processes import STATE_DIR

BUILD_MARK = "PANGEO_BINDER_BUILD"
"""The environment variable that marks a build's processes, including those that left its process group."""

LINE_CHARACTERS = 4096
"""The maximum length of a log line; the rest of the line is dropped."""

STREAM_BYTES = 64 << 20
"""The maximum output of a command whose lines are shown; the longest logs of real builds are a few MiB."""
STREAM_LINES = 500_000
CAPTURE_BYTES = 1 << 20
"""The maximum output of a command that is returned complete, unless its caller expects more."""

REQUEST_BYTES = 4096
"""The maximum input of a command: a pipe holds it, so nobody waits until the command reads it."""

_INHERITED = (
    *("PATH", "LANG", "TZ", STATE_DIR),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT", "GIT_SSL_CAINFO"),
    *("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"),
)
_TAIL_LINES = 200
_CHUNK_BYTES = 65536
WITH_LIMIT = 'ulimit -v "$1" && shift && exec "$@"'
"""Sets the limit of the address space, in KiB, of the command in the other arguments."""
_POLL_SECONDS = 0.25
_DROP_SECONDS = 5
_LAUNCHER_SECONDS = 15
"""How long a launcher may take to end its descendants; it gives up sooner."""
_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Command:
    """A command, its whole environment, and its time limit."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    """The whole environment; nothing is inherited."""
    cwd: Path
    timeout_seconds: float
    memory_bytes: int | None = None
    """The limit of its address space, which holds from its first instruction; only Linux enforces it."""
    request: bytes = b""
    """Its standard input, at most `REQUEST_BYTES`."""
    launched: bool = False
    """Whether a launcher ends all its descendants, also those that detached and have no mark; only on Linux."""

    def __repr__(self) -> str:
        return f"Command({' '.join(self.argv)})"


@dataclass(frozen=True, slots=True)
class Captured:
    """The exit code and output of a command that ended by itself."""

    code: int
    out: str
    err: str


class CommandFailed(PangeoBinderError):
    """A command ended with the nonzero exit code `code`; `tail` has its last lines."""

    def __init__(self, code: int, tail: tuple[str, ...]) -> None:
        super().__init__(f"ended with exit code {code}")
        self.code = code
        self.tail = tail


class CommandTimedOut(PangeoBinderError):
    """A command was ended because it exceeded its time limit."""


class OutputTooLarge(PangeoBinderError):
    """A command was ended because it printed more than it may."""


def inherited(*names: str) -> dict[str, str]:
    """Return the variables that commands inherit: PATH, locale, certificates and proxies, and `names`.

    An allow-list, because this process's other variables may be tokens and keys.
    """
    return {name: os.environ[name] for name in (*_INHERITED, *names) if name in os.environ}


class LineSplitter:
    """Splitter of bytes into readable lines: no ANSI codes, only the last text after `\\r`, limited length."""

    def __init__(self) -> None:
        self._decode: Callable[..., str] = codecs.getincrementaldecoder("utf-8")(errors="replace").decode
        self._rest = ""

    def feed(self, chunk: bytes) -> list[str]:
        """Return the lines that `chunk` completes."""
        *whole, rest = (self._rest + self._decode(chunk)).split("\n")
        # an endless progress bar must not fill the memory: keep only its last text
        self._rest = rest.rpartition("\r")[2] if len(rest) > LINE_CHARACTERS and "\r" in rest[:-1] else rest
        self._rest = self._rest[: 4 * LINE_CHARACTERS]
        return [self._clean(line) for line in whole]

    def flush(self) -> list[str]:
        """Return the text after the last newline, if any."""
        rest, self._rest = self._rest + self._decode(b"", final=True), ""
        return [self._clean(rest)] if rest.strip() else []

    @staticmethod
    def _clean(line: str) -> str:
        shown = _ANSI.sub("", line).rstrip("\r").rpartition("\r")[2]
        return _CONTROL.sub("", shown)[:LINE_CHARACTERS]


def end_marked(mark: str) -> int:
    """Kill every process of this user with the build mark `mark`; return their number."""
    killed = set[psutil.Process]()
    # a process may start another after its own turn in the list, so look until there is no new one
    while new := _marked(mark) - killed:
        for process in new:
            with suppress(psutil.Error):
                process.kill()
        # their starter waits for our own children: waiting here would consume their exit codes
        psutil.wait_procs([process for process in new if not _is_child(process)], timeout=5)
        killed |= new
    return len(killed)


def _marked(mark: str) -> set[psutil.Process]:
    found = set()
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and process.environ().get(BUILD_MARK) == mark:
                found.add(process)
    return found


def _is_child(process: psutil.Process) -> bool:
    try:
        return bool(process.ppid() == os.getpid())
    except psutil.Error:
        return False


def _argv(command: Command) -> tuple[str, ...]:
    """Return the words to execute: a shell that sets the limit of memory and becomes the command, if it has one.

    Python's `preexec_fn` could set it too, but is not safe in a process with threads. Raises FileNotFoundError.
    """
    if command.launched:
        return tuple(with_own_launcher(command.argv))
    if not command.memory_bytes or sys.platform != "linux":
        return command.argv
    if shutil.which(command.argv[0], path=command.env.get("PATH", os.defpath)) is None:
        raise FileNotFoundError(command.argv[0])  # the shell would only end with 127
    return ("/bin/sh", "-c", WITH_LIMIT, "sh", str(command.memory_bytes >> 10), *command.argv)


async def _start(command: Command, stderr: int) -> asyncio.subprocess.Process:
    with _request(command) as stdin:
        return await asyncio.create_subprocess_exec(
            *_argv(command),
            stdin=stdin,
            stdout=asyncio.subprocess.PIPE,
            stderr=stderr,
            env=dict(command.env),
            cwd=command.cwd,
            start_new_session=True,
        )


@contextmanager
def _request(command: Command) -> Iterator[int]:
    """Yield the standard input that the command starts with."""
    if not command.request:
        yield asyncio.subprocess.DEVNULL
        return
    assert len(command.request) <= REQUEST_BYTES
    reader, writer = os.pipe()
    try:
        os.write(writer, command.request)
        os.close(writer)
        yield reader
    finally:
        os.close(reader)


async def _kill(process: asyncio.subprocess.Process, command: Command) -> None:
    """Kill the command's process group, and marked processes that left the group; a launcher first ends all it has."""
    if command.launched and process.returncode is None and sys.platform == "linux":
        with suppress(ProcessLookupError, TimeoutError):
            process.send_signal(END)
            await asyncio.wait_for(process.wait(), _LAUNCHER_SECONDS)
    with suppress(ProcessLookupError, PermissionError):  # macOS returns EPERM if only zombies are left
        os.killpg(process.pid, signal.SIGKILL)
    if mark := command.env.get(BUILD_MARK):
        await asyncio.to_thread(end_marked, mark)  # it reads the environment of every process of this machine


async def _chunks(process: asyncio.subprocess.Process, command: Command) -> AsyncGenerator[bytes, None]:
    """Yield output until its end; kill children that keep the pipe open after the command ended."""
    assert process.stdout is not None
    deadline = time.monotonic() + command.timeout_seconds
    read = asyncio.ensure_future(process.stdout.read(_CHUNK_BYTES))
    try:
        while True:
            done, _ = await asyncio.wait({read}, timeout=_POLL_SECONDS)
            if done:
                if not (chunk := read.result()):
                    return
                yield chunk
                read = asyncio.ensure_future(process.stdout.read(_CHUNK_BYTES))
            elif process.returncode is not None:
                await _kill(process, command)
            if time.monotonic() > deadline:
                raise CommandTimedOut(f"{command.argv[0]} took longer than {command.timeout_seconds:.0f} s")
    finally:
        read.cancel()


async def _end(process: asyncio.subprocess.Process, command: Command) -> None:
    """Kill the remaining processes, and read the pipe to its end so that it is closed."""
    await _kill(process, command)
    assert process.stdout is not None
    await asyncio.sleep(0)  # let a cancelled read release the stream
    while await process.stdout.read(_CHUNK_BYTES):
        pass
    await process.wait()


async def _lines(chunks: AsyncGenerator[bytes, None]) -> AsyncGenerator[str, None]:
    """Yield the clean lines of `chunks`. Raises OutputTooLarge above the limits of a stream."""
    splitter, size, count = LineSplitter(), 0, 0
    async for chunk in chunks:
        size += len(chunk)
        for line in splitter.feed(chunk):
            count += 1
            if size > STREAM_BYTES or count > STREAM_LINES:
                raise OutputTooLarge(f"more than {STREAM_BYTES} bytes or {STREAM_LINES} lines")
            yield line
            await asyncio.sleep(0)  # a chunk may be thousands of lines, and the consumers of none of them wait
        if size > STREAM_BYTES:
            raise OutputTooLarge(f"more than {STREAM_BYTES} bytes")
    for line in splitter.flush():
        yield line


async def stream(command: Command) -> AsyncGenerator[str, None]:
    """Run `command` and yield the lines of standard output and error as they arrive.

    Raises CommandFailed, CommandTimedOut or OutputTooLarge. It leaves no process behind, also when closed or cancelled.
    """
    process = await _start(command, asyncio.subprocess.STDOUT)
    tail = deque[str](maxlen=_TAIL_LINES)
    chunks = _chunks(process, command)
    try:
        async with aclosing(_lines(chunks)) as lines:
            async for line in lines:
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


class _Output:
    """What a command has printed to both of its streams together, up to `most` bytes."""

    def __init__(self, most: int) -> None:
        self._left = most

    async def read(self, reader: asyncio.StreamReader | None) -> bytes:
        """Return everything up to the end of `reader`. Raises OutputTooLarge."""
        assert reader is not None
        parts = []
        while part := await reader.read(_CHUNK_BYTES):
            self._left -= len(part)
            if self._left < 0:
                raise OutputTooLarge("a command printed too much")
            parts.append(part)
        return b"".join(parts)


async def capture(command: Command, max_bytes: int = CAPTURE_BYTES) -> Captured:
    """Run `command` and return its exit code and output.

    `max_bytes` limits standard output and error together. Raises CommandTimedOut or OutputTooLarge.
    """
    process = await _start(command, asyncio.subprocess.PIPE)
    output = _Output(max_bytes)
    reads = [asyncio.create_task(output.read(reader)) for reader in (process.stdout, process.stderr)]
    try:
        async with asyncio.timeout(command.timeout_seconds):
            out, err = await asyncio.gather(*reads)
            await process.wait()
    except BaseException as error:
        await _kill(process, command)
        await _drop(reads, process)
        if isinstance(error, TimeoutError):
            raise CommandTimedOut(f"{command.argv[0]} took longer than {command.timeout_seconds:.0f} s") from None
        if isinstance(error, OutputTooLarge):
            raise OutputTooLarge(f"{command.argv[0]} printed more than {max_bytes} bytes") from None
        raise
    return Captured(process.returncode or 0, out.decode(errors="replace"), err.decode(errors="replace"))


async def _drop(reads: list[asyncio.Task[bytes]], process: asyncio.subprocess.Process) -> None:
    """Read what is left of the output of a killed process, so that its pipes are closed, and forget it."""
    for read in reads:
        read.cancel()
    await asyncio.gather(*reads, return_exceptions=True)
    with suppress(TimeoutError):
        async with asyncio.timeout(_DROP_SECONDS):
            for reader in (process.stdout, process.stderr):
                assert reader is not None
                while await reader.read(_CHUNK_BYTES):
                    pass
            await process.wait()
