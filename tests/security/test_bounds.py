"""Drive what reads strangers' input with the largest allowed and the first refused input, and meter the event loop."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from urllib.parse import quote

import aiohttp
import psutil
import pytest
from aiohttp import web as aio
from aiohttp.test_utils import TestServer
from tornado.web import HTTPError

from pangeo_binder import answers, command
from pangeo_binder.answers import AnswerInvalid, read_bytes, read_lines, read_object
from pangeo_binder.builders.base import BuildSettings
from pangeo_binder.builders.recipe import Recipe, check
from pangeo_binder.builders.venv.builder import VenvBuilder
from pangeo_binder.builders.venv.explain import explain, own_indexes
from pangeo_binder.command import BUILD_MARK, Command, OutputTooLarge, capture, stream
from pangeo_binder.errors import BadLink, BuildFailed, HubUnavailable, RefNotFound, RepoTooLarge, TicketInvalid
from pangeo_binder.git import Git, GitAccess
from pangeo_binder.hub.admission_api import read_body
from pangeo_binder.hub.admissions import AdmissionTable
from pangeo_binder.launch.hub import Hub
from pangeo_binder.liveness import HubIsAlive
from pangeo_binder.model import VirtualEnvironment, to_wire
from pangeo_binder.names import new_launch_id
from pangeo_binder.policy.counters import (
    MAX_RESERVATIONS,
    PART_BYTES,
    Limit,
    Renewal,
    Reservation,
    parts_of,
)
from pangeo_binder.policy.request import MAX_BYTES, RequestInvalid
from pangeo_binder.repos.git import GitProvider
from pangeo_binder.repos.listing import LISTING_BYTES, list_refs
from pangeo_binder.repos.suggestion import NAME_CHARACTERS, close_names
from pangeo_binder.ticket import MAX_CHARACTERS, read
from pangeo_binder.web import limits
from tests.repos.gitrepo import git, make_repository
from tests.repos.gitserver import ACCESS, LOOPBACK, git_server
from tests.stack.loopmeter import loop_meter

__all__ = ["git_server"]

pytestmark = pytest.mark.processes


# --- commands


@pytest.fixture
def run(tmp_path: Path) -> Callable[[str], Command]:
    def sh(script: str) -> Command:
        return Command(("/bin/sh", "-c", script), {"PATH": os.environ["PATH"], BUILD_MARK: str(tmp_path)}, tmp_path, 60)

    return sh


def left(tmp_path: Path) -> list[str]:
    """Return the command lines of processes that carry this test's mark."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(BUILD_MARK) == str(tmp_path):
                found.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return found


@pytest.mark.parametrize("where", ["", " >&2"], ids=["output", "errors"])
async def test_a_captured_command_prints_a_bounded_amount(
    run: Callable[[str], Command], tmp_path: Path, where: str
) -> None:
    ended = await capture(run(f"(head -c 100000 /dev/zero){where}"), 100_000)
    assert len(ended.out + ended.err) == 100_000 and ended.code == 0
    for script in ("head -c 100001 /dev/zero", "yes", "setsid yes & yes"):
        async with loop_meter():
            with pytest.raises(OutputTooLarge, match="more than 100000 bytes"):
                await capture(run(f"({script}){where}"), 100_000)
    assert left(tmp_path) == []


async def test_a_streamed_command_prints_a_bounded_amount(
    run: Callable[[str], Command], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "STREAM_LINES", 20_000)
    async with loop_meter():
        assert len([line async for line in stream(run("yes '' | head -n 20000"))]) == 20_000
        for script in ("yes '' | head -n 20001", "yes ''"):
            with pytest.raises(OutputTooLarge):
                async for _ in stream(run(script)):
                    pass
    monkeypatch.setattr(command, "STREAM_BYTES", 1 << 20)
    async with loop_meter():
        with pytest.raises(OutputTooLarge):  # one line without an end
            async for _ in stream(run("cat /dev/zero")):
                pass
    assert left(tmp_path) == []


async def test_a_build_that_prints_too_much_fails_with_a_sentence(tmp_path: Path) -> None:
    error = VenvBuilder(BuildSettings(cache_dir=tmp_path))._to_user_error(OutputTooLarge("too much"))
    assert isinstance(error, BuildFailed) and "printed more" in error.message and "--quiet" in error.hint


# --- refs of a git server


@pytest.fixture
def list_many(tmp_path: Path, git_server: str) -> Callable[[list[str]], str]:
    """What makes the git server list branches, all at one commit; returns the URL of the repository."""
    path = make_repository(tmp_path / "many", {})
    commit = git("rev-parse", "HEAD", cwd=path)

    def publish(names: list[str]) -> str:
        rows = "".join(f"{commit} refs/heads/{name}\n" for name in sorted(names))
        (path / ".git" / "packed-refs").write_text(f"# pack-refs with: peeled fully-peeled sorted \n{rows}")
        return f"{git_server}/git/many/.git"

    return publish


async def refusal_of(url: str, ref: str) -> RefNotFound:
    provider = GitProvider(addresses=LOOPBACK)
    async with loop_meter():
        with pytest.raises(RefNotFound) as refused:
            await provider.resolve(provider.parse(f"{quote(url, safe='')}/{ref}"))
    return refused.value


@pytest.mark.parametrize(("length", "count"), [(NAME_CHARACTERS, 1500), (NAME_CHARACTERS + 1, 1500), (200, 1500)])
async def test_similar_names_are_compared_in_bounded_time(
    list_many: Callable[[list[str]], str], length: int, count: int
) -> None:
    start = ("abcdefgh" * 25)[: length - 4]
    refused = await refusal_of(list_many([f"{start}{number:04}" for number in range(count)]), f"{start}zzzz")
    assert ("Similar names" in refused.hint) == (length <= NAME_CHARACTERS)
    assert len(str(refused)) < 1000


async def test_the_largest_listing_is_read_and_a_larger_one_is_not(list_many: Callable[[list[str]], str]) -> None:
    row = len("0" * 40 + "\trefs/heads/branch-000000\n")
    most = (LISTING_BYTES - 2 * row) // row
    url = list_many([f"branch-{number:06}" for number in range(most)])
    async with loop_meter():
        assert most <= len((await list_refs(url, ACCESS)).commits) <= most + 1
    assert "Similar names" in (await refusal_of(url, "branch-00000x")).hint
    url = list_many([f"branch-{number:06}" for number in range(most + 4)])
    async with loop_meter():
        with pytest.raises(RepoTooLarge, match="more branches and tags than this binder reads"):
            await list_refs(url, ACCESS)


async def test_a_repository_with_very_many_refs_is_still_launched_by_name(
    list_many: Callable[[list[str]], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = list_many([f"branch-{number:06}" for number in range(300_000)])
    provider = GitProvider(addresses=LOOPBACK)
    async with loop_meter():
        for ref in ("branch-299999", "refs/heads/branch-000003"):
            assert (await provider.resolve(provider.parse(f"{quote(url, safe='')}/{ref}"))).revision
        repo = await provider.resolve(provider.parse(f"{quote(url, safe='')}/{'0' * 39}1"))
        assert "too large" in (await provider.find_provenance(repo)).foreign_reason
    assert (await refusal_of(url, "branch-x")).hint == "Check the name in the repository."
    tracemalloc.start()
    try:
        with pytest.raises(RepoTooLarge):
            await list_refs(str(tmp_path / "many"), GitAccess(allow_local=True))
        assert tracemalloc.get_traced_memory()[1] < 2 * LISTING_BYTES
    finally:
        tracemalloc.stop()
    if sys.platform == "linux":
        # a local repository's own git answers for one name in less memory than a client that reads a listing
        for place, memory_bytes in ((url, 40 << 20), (str(tmp_path / "many"), 24 << 20)):
            monkeypatch.setattr("pangeo_binder.git._MEMORY_BYTES", memory_bytes)
            with pytest.raises(RepoTooLarge):
                await list_refs(place, GitAccess(allow_local=True), "branch-299999")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux enforces limits of the address space")
async def test_a_command_has_its_limit_of_memory_before_it_starts(tmp_path: Path) -> None:
    loop, big = asyncio.get_running_loop(), tmp_path / "big"
    with big.open("wb") as file:
        file.truncate(200 << 20)

    async def asked(memory_bytes: int | None) -> str:
        loop.call_soon(time.sleep, 1)  # a busy loop gives no limit from outside in time
        command = Command(("/bin/sh", "-c", "ulimit -v"), {}, tmp_path, 60, memory_bytes)
        return (await capture(command)).out.strip()

    assert await asked(64 << 20) == str(64 << 10)
    assert await asked(None) != str(64 << 10)
    for memory_bytes in (None, 64 << 20):
        with pytest.raises(FileNotFoundError):
            await capture(Command(("no-such-command",), {"PATH": "/bin"}, tmp_path, 60, memory_bytes))
    url = str(make_repository(tmp_path / "repository", {}))
    limited = Git(url, GitAccess(allow_local=True))
    assert len((await limited.run("hash-object", "--", str(big))).out.strip()) == 40
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pangeo_binder.git._MEMORY_BYTES", 40 << 20)
        loop.call_soon(time.sleep, 2)  # git maps the whole file at once, and ends
        with pytest.raises(RepoTooLarge):
            await limited.run("hash-object", "--", str(big))


def test_names_that_cannot_be_shown_are_not_suggested() -> None:
    assert close_names("main", ["main2", "mai\x1b[31mn", "ma in", "main`x", "m" * 500]) == ["main2"]


# --- answers of services


@pytest.fixture
async def answer() -> AsyncIterator[Callable[[bytes], str]]:
    """What sets the answer of a service to all requests; returns its URL."""
    body = b""

    async def reply(request: aio.Request) -> aio.Response:
        return aio.Response(body=body, content_type="application/json")

    app = aio.Application()
    app.router.add_route("*", "/{path:.*}", reply)
    server = TestServer(app, host="127.0.0.1")
    await server.start_server()

    def set_to(new: bytes) -> str:
        nonlocal body
        body = new
        return str(server.make_url("/")).rstrip("/")

    yield set_to
    await server.close()


def padded(size: int) -> bytes:
    """Return a JSON object of `size` bytes with small parts, which take the longest to parse."""
    parts = json.dumps({"stopped": False, "more": [[0]] * ((size - 40) // 5)}, separators=(",", ":")).encode()
    return parts + b" " * (size - len(parts))


NESTED = b"[" * 100_000


async def test_an_answer_is_read_up_to_its_limit(answer: Callable[[bytes], str]) -> None:
    async with aiohttp.ClientSession() as http:
        url = answer(padded(answers.MAX_BYTES))
        async with loop_meter(), http.get(url) as response:
            assert (await read_object(response))["stopped"] is False
        for body in (padded(answers.MAX_BYTES + 1), NESTED, b"[]", b"{", b"\xff", b""):
            async with http.get(answer(body)) as response:
                with pytest.raises(AnswerInvalid):
                    await read_object(response)
        async with http.get(answer(b"x" * 1001)) as response:
            with pytest.raises(AnswerInvalid, match="more than 1000 bytes"):
                await read_bytes(response, 1000)


async def test_a_line_of_a_stream_is_read_up_to_its_limit(answer: Callable[[bytes], str]) -> None:
    async with aiohttp.ClientSession() as http:
        async with loop_meter(), http.get(answer(b"a" * answers.LINE_BYTES + b"\n" * 100_000 + b"end")) as response:
            lines = [line async for line in read_lines(response)]
        assert len(lines) == 100_001 and lines[-1] == b"end"
        async with http.get(answer(b"a" * 3 * answers.LINE_BYTES)) as response:
            with pytest.raises(AnswerInvalid):
                [line async for line in read_lines(response)]


def reserved(keys: int, length: int) -> Reservation:
    """Return a reservation with `keys` keys of `length` characters in each of its parts."""
    names = tuple(f"{number:02}".ljust(length, "n") for number in range(keys))
    return Reservation(
        new_launch_id(), dict.fromkeys(names, 1), tuple(Limit(names[:4], 10 * MAX_RESERVATIONS) for _ in names)
    )


async def test_the_largest_report_is_read_in_small_steps() -> None:
    held = [reserved(5, 40) for _ in range(MAX_RESERVATIONS - 100)] + [reserved(16, 200) for _ in range(101)]
    table, lost, sizes = AdmissionTable(0), list[str](), set[int]()
    async with loop_meter():
        for part in parts_of("one", held):
            body = json.dumps(to_wire(part)).encode()
            await asyncio.sleep(0)
            lost += table.renew(read_body(Renewal, body), {})
            await asyncio.sleep(0)
            sizes.add(len(body))
    assert lost == [held[-1].launch] and max(sizes) <= PART_BYTES
    async with loop_meter():
        for body in (b"[[[]]]," * (PART_BYTES // 7), b"[]," * (PART_BYTES // 3), NESTED):
            with pytest.raises(HTTPError, match="400"):
                read_body(Renewal, b"[" + body[: PART_BYTES - 4] + b"0]")
            await asyncio.sleep(0)
    with pytest.raises(HTTPError, match="several parts"):
        read_body(Renewal, b" " * (PART_BYTES + 1))


@pytest.mark.parametrize(
    "body", [b" " * (answers.MAX_BYTES + 1), NESTED, b"{}", b"x"], ids=["large", "deep", "other", "text"]
)
async def test_the_binder_survives_answers_of_the_hub(answer: Callable[[bytes], str], body: bytes) -> None:
    hub = Hub(answer(body), "token", ["key"])
    async with loop_meter():
        with pytest.raises(HubUnavailable):
            await hub.servers()
    await hub.close()


async def test_progress_of_a_start_has_bounded_lines(answer: Callable[[bytes], str]) -> None:
    hub = Hub(answer(b""), "token", ["key"])
    for line in (b"x" * 2 * answers.LINE_BYTES, NESTED, b"[]", b"{"):
        answer(b"data:" + line + b"\n\n")
        with pytest.raises((AnswerInvalid, HubUnavailable)):
            [message async for message in hub._progress("/progress")]
    await hub.close()


async def test_a_reaper_takes_an_endless_answer_for_none(answer: Callable[[bytes], str]) -> None:
    assert await HubIsAlive(answer(padded(answers.MAX_BYTES)), "token")("user/server") is True
    for body in (padded(answers.MAX_BYTES + 1), NESTED, b"[]", b"{}"):
        assert await HubIsAlive(answer(body), "token")("user/server") is None


# --- files and output of repositories


HOSTILE_OUTPUT = [
    "only x " * 585,
    "Couldn't parse requirement in `" * 130,
    "Failed to build `" * 230,
    "you require a, and b and c, " * 140,
    "Because " + "a-" * 2000,
]


@pytest.mark.parametrize("line", HOSTILE_OUTPUT)
async def test_the_output_of_uv_is_explained_in_bounded_time(line: str) -> None:
    for first in ("", "No solution found", "No solution found: you require a."):
        for lines in (15, 199):  # just below what is read, and all that is kept
            async with loop_meter():
                error = explain([first, *[line[:4096]] * lines, "is available " * 300])
            assert len(str(error)) < 4000


async def test_package_indexes_are_found_in_bounded_time() -> None:
    text = "\n" * 500_000 + " " * 400_000 + "\n-i http://[\n  --index-url https://u:p@mirror.example/simple\n"
    async with loop_meter():
        assert own_indexes(text) == ["mirror.example"]


YAMLS = {
    "unknown keys": b"\n".join(b"k%d: 1" % number for number in range(1900)),
    "deep": b"[" * MAX_BYTES,
    "flow": b"{" + b"a: {}, " * 2300 + b"}",
    "one key": b"serve" + b"r" * (MAX_BYTES - 8) + b": 1",
}


@pytest.mark.parametrize("raw", YAMLS.values(), ids=YAMLS)
async def test_the_largest_request_of_a_repository_holds_nobody_up(tmp_path: Path, raw: bytes) -> None:
    builder = VenvBuilder(BuildSettings(cache_dir=tmp_path / "cache"))
    file = tmp_path / "binder" / "pangeo.yaml"
    file.parent.mkdir()
    file.write_bytes(raw[:MAX_BYTES])
    environment = VirtualEnvironment("e1", str(tmp_path), str(tmp_path))
    async with loop_meter():
        with pytest.raises(RequestInvalid) as refused:
            await builder.find_request(environment)
    assert len(refused.value.message) < 20_000
    file.write_bytes(b"#" * (MAX_BYTES + 1))
    with pytest.raises(RequestInvalid, match="larger than 16 KiB"):
        await builder.find_request(environment)


def test_a_requested_python_has_a_bounded_length() -> None:
    check(Recipe(python="3." + "1" * 98))
    with pytest.raises(BuildFailed, match="too long"):
        check(Recipe(python="3." + "1" * 99))


# --- links, tickets and networks


def test_a_link_and_a_ticket_have_a_bounded_length() -> None:
    provider = GitProvider(addresses=LOOPBACK)
    host = "https://example.org/"
    assert provider.parse(quote(host + "a" * (2047 - len(host)), safe="") + "/" + "b" * 255)
    for url, ref in ((host + "a" * 2048, "HEAD"), (host + "a", "b" * 256)):
        with pytest.raises(BadLink):
            provider.parse(f"{quote(url, safe='')}/{ref}")
    for length in (MAX_CHARACTERS, MAX_CHARACTERS + 1, 10_000_000):
        with pytest.raises(TicketInvalid):
            read("a." * (length // 2), ["key"])


def test_no_number_of_networks_fills_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "_COUNTED_NETWORKS", 100)
    limiter = limits.RateLimiter(10_000, 3600)
    now = time.time() // 3600 * 3600
    for number in range(1000):
        limiter.take(f"2001:db8:0:{number:x}::/64", now)
    assert len(limiter._counts) == 101 and limiter._counts.total() == 1000


async def test_the_meter_sees_what_holds_the_loop() -> None:
    with pytest.raises(AssertionError, match="the loop was held"):
        async with loop_meter() as meter:
            until = time.process_time() + meter.limit_seconds + 0.1
            while time.process_time() < until:
                pass
    async with loop_meter():
        await asyncio.sleep(0.1)
