"""The measurements, one function per scenario; each stops its servers before it returns."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import psutil

from pangeo_binder.model import Environment, RepoRef

from .clients import Clients, Run
from .stack import LOG_LINES, SLOW_SECONDS, MeasuredStack
from .table import Series, Table, rows

STAGES = ("resolve", "admit", "build", "ticket", "start")
PLAIN = "unmodified JupyterHub with its default proxy"
_WARM_UP = 3


@dataclass(frozen=True, slots=True)
class Bench:
    """The stack and the clients that every scenario uses."""

    stack: MeasuredStack
    clients: Clients

    async def ended(self, *runs: Run) -> None:
        """Stop the servers of `runs` and wait until nothing of them remains."""
        await asyncio.gather(*(self.clients.end(run) for run in runs))
        await asyncio.to_thread(self.stack.wait_idle)

    @property
    def memory(self) -> str:
        """The binder's resident memory, as text."""
        return f"the binder's memory: {self.stack.binder.memory_info().rss / 1e6:.0f} MB"

    def stages(self) -> dict[str, float]:
        """Return the seconds all launches so far have spent in each stage."""
        found = self.stack.metrics()
        return {stage: found.get(f"launch_stage_seconds_sum {stage}", 0.0) for stage in STAGES}


@dataclass(slots=True)
class Cpu:
    """The processor time of a process since this object was created, without its children."""

    process: psutil.Process
    before: float = 0.0

    def __post_init__(self) -> None:
        self.before = self._used()

    def _used(self) -> float:
        times = self.process.cpu_times()
        return float(times.user + times.system)

    @property
    def seconds(self) -> float:
        return self._used() - self.before


async def sequential(bench: Bench, ref: RepoRef, n: int) -> Table:
    """Launch one after another, alternately in all ways."""
    environment = await bench.stack.environment(ref)
    series: Series = defaultdict(list)
    for _ in range(_WARM_UP):
        await bench.ended(await bench.clients.at_hub(ref, environment), await bench.clients.through_binder(ref))
        if bench.clients.plain is not None:
            await bench.ended(await bench.clients.at_plain_hub())
    for number in range(n):
        direct = await _direct(bench, ref, environment) if number % 2 else 0.0
        before = bench.stages()
        run = await bench.clients.through_binder(ref)
        spent = {stage: seconds - before[stage] for stage, seconds in bench.stages().items()}
        await bench.ended(run)
        direct = direct or await _direct(bench, ref, environment)
        if bench.clients.plain is not None and ref == bench.stack.repositories.bare:
            plain = await bench.clients.at_plain_hub()
            await bench.ended(plain)
            series[PLAIN].append(plain.seconds)
        series["through the binder"].append(run.seconds)
        series["at the hub directly"].append(direct)
        series["our own share: binder - its stage `start`"].append(run.seconds - spent["start"])
        series["paired: binder - direct"].append(run.seconds - direct)
        series["paired: stage `start` - direct"].append(spent["start"] - direct)
        for stage, seconds in spent.items():
            series[f"stage {stage}"].append(seconds)
    return Table(f"One launch at a time, tier {ref.name}", "milliseconds", rows(series, 1000))


async def _direct(bench: Bench, ref: RepoRef, environment: Environment) -> float:
    run = await bench.clients.at_hub(ref, environment)
    await bench.ended(run)
    return run.seconds


async def burst(bench: Bench, n: int, repetitions: int) -> Table:
    """Launch `n` at once, alternately in all ways."""
    ref = bench.stack.repositories.bare
    environment = await bench.stack.environment(ref)
    ways: dict[str, Callable[[], Awaitable[Run]]] = {
        "through the binder": lambda: bench.clients.through_binder(ref),
        "at the hub directly": lambda: bench.clients.at_hub(ref, environment),
    }
    hubs = dict.fromkeys(ways, bench.stack.hub)
    if (plain := bench.clients.plain) is not None:
        ways[PLAIN], hubs[PLAIN] = bench.clients.at_plain_hub, plain.process
    series: Series = defaultdict(list)
    for repetition in range(repetitions):
        for way in list(ways) if repetition % 2 else list(reversed(ways)):
            before, binder, hub = bench.stages(), Cpu(bench.stack.binder), Cpu(hubs[way])
            started = time.perf_counter()
            runs = await asyncio.gather(*(ways[way]() for _ in range(n)))
            series[f"{way}: all ready"].append(time.perf_counter() - started)
            series[f"{way}: half ready"].append(statistics.median(run.seconds for run in runs))
            series[f"{way}: the hub's processor"].append(hub.seconds)
            if way == "through the binder":
                series["the binder's processor"].append(binder.seconds)
                for stage, seconds in bench.stages().items():
                    series[f"mean of stage {stage}"].append((seconds - before[stage]) / n)
            await bench.ended(*runs)
    return Table(f"{n} launches at once", "seconds", rows(dict(sorted(series.items()))), (bench.memory,))


async def throng(bench: Bench, n: int) -> Table:
    """Launch more at once through the binder than JupyterHub starts by default (100); none may fail."""
    ref, started = bench.stack.repositories.bare, time.perf_counter()
    runs = await asyncio.gather(*(bench.clients.through_binder(ref) for _ in range(n)))
    seconds = time.perf_counter() - started
    await bench.ended(*runs)
    series: Series = {"until ready": [run.seconds for run in runs], "all ready": [seconds]}
    return Table(f"{n} launches at once, more than JupyterHub starts by default", "seconds", rows(series))


async def stuck(bench: Bench, k: int) -> Table:
    """Launch `k` servers that need half a minute to start, and three seconds later a normal one."""
    slow = [asyncio.create_task(bench.clients.through_binder(bench.stack.repositories.slow)) for _ in range(k)]
    await asyncio.sleep(3)
    run = await bench.clients.through_binder(bench.stack.repositories.bare)
    assert not any(task.done() for task in slow), "the slow servers were not slow"
    await bench.ended(run, *await asyncio.gather(*slow))
    series: Series = {"until `built`": [run.phases["built"]], "until ready": [run.seconds]}
    return Table(f"One launch behind {k} that need {SLOW_SECONDS:.0f} s", "seconds", rows(series))


async def shared_build(bench: Bench, n: int) -> Table:
    """Launch `n` at once of a repository whose build prints 500 lines; the clients leave when it is built."""
    before, cpu = bench.stack.metrics(), Cpu(bench.stack.binder)
    ref = bench.stack.repositories.logging
    runs = await asyncio.gather(*(bench.clients.through_binder(ref, until="built") for _ in range(n)))
    used = cpu.seconds
    await asyncio.to_thread(bench.stack.wait_idle)
    after = bench.stack.metrics()
    builds = sum(after[key] - before.get(key, 0) for key in after if key.startswith("builds_total"))
    series: Series = {
        "until `building`": [run.phases["building"] for run in runs],
        "until `built`": [run.seconds for run in runs],
        "events per client": [run.events for run in runs],
    }
    events = sum(run.events for run in runs)
    whole = sum(run.steps == LOG_LINES for run in runs)
    notes = (
        f"builds started: {builds:.0f}; {whole} of {n} clients saw all {LOG_LINES} lines",
        f"processor of the binder: {used:.2f} s for {events} events, {used / events * 1e6:.0f} µs each",
        bench.memory,
    )
    return Table(f"{n} launches of one repository that is not built", "seconds, events", rows(series), notes)
