"""The measurements with many clients at a time: servers that never come up, a steady stream of launches, idle pages."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pangeo_binder.model import RepoRef

from .clients import Run
from .scenarios import Bench, Cpu
from .stack import TEN_SECONDS
from .table import Series, Table, rows

_PER_SECOND = 2.0
_PER_NETWORK = 250
"""Followers of one network; the binder allows 500."""
_IDLE_SECONDS = 20
"""How long the idle followers are observed, after as long a pause."""
_REACHED_SECONDS = 150
_DRIP_SECONDS = 5
_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/x-git-upload-pack-advertisement\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)
_DRIP = b"10\r\n0000000000000000\r\n"


async def wedged(bench: Bench, k: int) -> Table:
    """Launch `k` servers that never come up, and when all are starting, normal ones; then all clients leave."""
    before = await _normal(bench)
    stuck = [Run() for _ in range(k)]
    repository = bench.stack.repositories.wedged
    tasks = [asyncio.create_task(bench.clients.through_binder(repository, run=run)) for run in stuck]
    await _reached(tasks, stuck, "launching")
    await asyncio.sleep(3)
    behind = await _normal(bench)
    assert not any(task.done() for task in tasks), "a wedged server came up, or its launch failed"
    await _leave(tasks)
    started = time.perf_counter()
    await asyncio.to_thread(bench.stack.wait_idle)
    series: Series = {
        "until ready, before": [run.seconds for run in before],
        f"until `built`, behind {k}": [run.phases["built"] for run in behind],
        f"until ready, behind {k}": [run.seconds for run in behind],
        "until their servers are gone": [time.perf_counter() - started],
    }
    return Table(f"A launch behind {k} servers that never come up", "seconds", rows(series))


async def arrivals(bench: Bench, n: int) -> Table:
    """Launch `n` servers that need ten seconds, two every second, however long the earlier ones take."""
    cpu, tasks, begun = Cpu(bench.stack.binder), [], time.perf_counter()
    for number in range(n):
        await asyncio.sleep(max(0.0, begun + number / _PER_SECOND - time.perf_counter()))
        tasks.append(asyncio.create_task(bench.clients.through_binder(bench.stack.repositories.ten)))
    runs = await asyncio.gather(*tasks)
    used = cpu.seconds
    await bench.ended(*runs)
    seconds = sorted(run.seconds for run in runs)
    series: Series = {"until `built`": [run.phases["built"] for run in runs], "until ready": seconds}
    notes = (f"p95 until ready: {_p95(seconds):.2f} s", f"processor of the binder: {used:.2f} s")
    title = f"{n} launches, {_PER_SECOND:.0f} per second, of a server that needs {TEN_SECONDS:.0f} s"
    return Table(title, "seconds", rows(series), notes)


async def idle(bench: Bench, n: int) -> Table:
    """Have `n` clients follow one build that prints nothing: its repository's host sends almost nothing."""
    async with _slow_host() as url:
        ref = RepoRef("git", f"{url}/org/idle", "1" * 40)  # a full commit id needs no look-up
        first = asyncio.create_task(bench.clients.through_binder(ref, run=Run()))
        await asyncio.sleep(5)
        before, runs = bench.stack.binder.memory_info().rss, [Run() for _ in range(n)]
        networks = [f"203.0.113.{1 + number // _PER_NETWORK}" for number in range(n)]
        tasks = [
            asyncio.create_task(bench.clients.through_binder(ref, run=run, network=network))
            for run, network in zip(runs, networks, strict=True)
        ]
        await _reached(tasks, runs, "fetching")
        await asyncio.sleep(_IDLE_SECONDS)
        cpu = Cpu(bench.stack.binder)
        await asyncio.sleep(_IDLE_SECONDS)
        used, after = cpu.seconds, bench.stack.binder.memory_info().rss
        assert not any(task.done() for task in (first, *tasks)), "a follower was lost"
        await _leave([first, *tasks])
    await asyncio.to_thread(bench.stack.wait_idle)
    series: Series = {"memory per follower": [(after - before) / n / 1000]}
    notes = (
        f"the binder's memory: {before / 1e6:.0f} MB with one follower, {after / 1e6:.0f} MB with {n} more",
        f"processor of the binder: {used / _IDLE_SECONDS * 100:.1f} % of a core",
    )
    return Table(f"{n} clients that follow a build without output", "kB", rows(series), notes)


async def _normal(bench: Bench) -> list[Run]:
    runs = [await bench.clients.through_binder(bench.stack.repositories.bare) for _ in range(3)]
    await asyncio.gather(*(bench.clients.end(run) for run in runs))
    return runs


async def _reached(tasks: list[asyncio.Task[Run]], runs: list[Run], phase: str) -> None:
    """Return when all clients have seen `phase`; raise what ended one of them before."""
    async with asyncio.timeout(_REACHED_SECONDS):
        while not all(phase in run.phases for run in runs):
            for task in tasks:
                if task.done():
                    task.result()
            await asyncio.sleep(0.1)


async def _leave(tasks: list[asyncio.Task[Run]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _p95(ordered: list[float]) -> float:
    return ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))]


@asynccontextmanager
async def _slow_host() -> AsyncIterator[str]:
    """Serve a git host whose answers do not end, on loopback, and yield its address."""

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(_HEAD)
            while not reader.at_eof():
                writer.write(_DRIP)
                await writer.drain()
                await asyncio.sleep(_DRIP_SECONDS)
        except (ConnectionError, asyncio.CancelledError):
            return  # the git of the last follower may outlive this benchmark by the build's grace
        finally:
            writer.close()

    server = await asyncio.start_server(drip, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
