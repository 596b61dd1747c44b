"""What is measured, one function per scenario; each ends what it started before it returns."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import psutil

from pangeo_binder.model import RepoRef

from .clients import Clients, Run
from .stack import SLOW_SECONDS, MeasuredStack
from .table import Row, Table, row

STAGES = ("resolve", "admit", "build", "ticket", "start")
_WARM_UP = 3
_MS = 1000.0


@dataclass(frozen=True, slots=True)
class Bench:
    """What every scenario works with."""

    stack: MeasuredStack
    clients: Clients

    async def ended(self, *runs: Run) -> None:
        """End the servers of `runs` and wait until nothing of them is left."""
        await asyncio.gather(*(self.clients.end(run) for run in runs))
        await asyncio.to_thread(self.stack.wait_idle)

    def stages(self) -> dict[str, float]:
        """Return the seconds all launches so far have spent in each stage."""
        found = self.stack.metrics()
        return {stage: found.get(f"launch_stage_seconds_sum {stage}", 0.0) for stage in STAGES}


@dataclass(slots=True)
class _Cpu:
    """What a process has used of the processor since this was made; its children are not in it."""

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
    """Launch one after another, in turn through the binder and at the hub."""
    environment = bench.stack.environment(ref)
    walls, directs, own = list[float](), list[float](), list[float]()
    by_stage: dict[str, list[float]] = {stage: [] for stage in STAGES}
    for number in range(_WARM_UP + n):
        direct = await bench.clients.at_hub(ref, environment)
        await bench.ended(direct)
        before = bench.stages()
        run = await bench.clients.through_binder(ref)
        after = bench.stages()
        await bench.ended(run)
        if number < _WARM_UP:
            continue
        spent = {stage: after[stage] - before[stage] for stage in STAGES}
        for stage in STAGES:
            by_stage[stage].append(spent[stage])
        walls.append(run.seconds)
        directs.append(direct.seconds)
        own.append(run.seconds - spent["start"])
    paired = [wall - direct for wall, direct in zip(walls, directs, strict=True)]
    rows = [
        row("through the binder", walls, _MS),
        row("at the hub directly", directs, _MS),
        row("our own share: binder - its stage `start`", own, _MS),
        row("paired: binder - direct", paired, _MS),
        *(row(f"stage {stage}", by_stage[stage], _MS) for stage in STAGES),
    ]
    return Table(f"One launch at a time, {ref.name}, n={n}", "milliseconds", tuple(rows))


async def burst(bench: Bench, n: int, repetitions: int) -> Table:
    """Launch `n` at once, in turn through the binder and at the hub."""
    ref = bench.stack.repositories.bare
    environment = bench.stack.environment(ref)
    ways: dict[str, Callable[[], Awaitable[Run]]] = {
        "through the binder": lambda: bench.clients.through_binder(ref),
        "at the hub directly": lambda: bench.clients.at_hub(ref, environment),
    }
    walls: dict[str, list[float]] = {way: [] for way in ways}
    middles: dict[str, list[float]] = {way: [] for way in ways}
    binder_cpu, hub_cpu = list[float](), dict[str, list[float]]({way: [] for way in ways})
    mean_stages: dict[str, list[float]] = {stage: [] for stage in STAGES}
    for repetition in range(repetitions):
        order = list(ways) if repetition % 2 else list(reversed(ways))
        for way in order:
            before = bench.stages()
            binder, hub, started = _Cpu(bench.stack.binder), _Cpu(bench.stack.hub), time.perf_counter()
            runs = await asyncio.gather(*(ways[way]() for _ in range(n)))
            walls[way].append(time.perf_counter() - started)
            middles[way].append(row("", [run.seconds for run in runs]).median)
            hub_cpu[way].append(hub.seconds)
            if way == "through the binder":
                binder_cpu.append(binder.seconds)
                after = bench.stages()
                for stage in STAGES:
                    mean_stages[stage].append((after[stage] - before[stage]) / n)
            await bench.ended(*runs)
    rows: list[Row] = []
    for way in ways:
        rows += [row(f"{way}: all ready", walls[way]), row(f"{way}: half ready", middles[way])]
    rows += [row("processor: binder", binder_cpu)]
    rows += [row(f"processor: hub, {way}", hub_cpu[way]) for way in ways]
    rows += [row(f"mean of stage {stage}", mean_stages[stage]) for stage in STAGES]
    memory = bench.stack.binder.memory_info().rss / 1e6
    return Table(
        f"{n} launches at once, repetitions in turn", "seconds", tuple(rows), (f"binder's memory: {memory:.0f} MB",)
    )


async def stuck(bench: Bench, k: int) -> Table:
    """Launch `k` servers that need half a minute, and three seconds later a normal one."""
    slow = [asyncio.create_task(bench.clients.through_binder(bench.stack.repositories.slow)) for _ in range(k)]
    await asyncio.sleep(3)
    run = await bench.clients.through_binder(bench.stack.repositories.bare)
    assert not any(task.done() for task in slow), "the slow servers were not slow"
    await bench.ended(run, *await asyncio.gather(*slow))
    rows = (row("until `built`", [run.phases["built"]]), row("until ready", [run.seconds]))
    return Table(f"One launch behind {k} that need {SLOW_SECONDS:.0f} s", "seconds", rows)


async def shared_build(bench: Bench, n: int) -> Table:
    """Let `n` ask at once for a repository whose build prints 500 lines; they leave when it is built."""
    before, cpu = bench.stack.metrics(), _Cpu(bench.stack.binder)
    ref = bench.stack.repositories.logging
    runs = await asyncio.gather(*(bench.clients.through_binder(ref, until="built") for _ in range(n)))
    used = cpu.seconds
    memory = bench.stack.binder.memory_info().rss / 1e6
    await asyncio.to_thread(bench.stack.wait_idle)
    after = bench.stack.metrics()
    builds = sum(after[key] - before.get(key, 0) for key in after if key.startswith("builds_total"))
    rows = (
        row("until `building`", [run.phases["building"] for run in runs]),
        row("until `built`", [run.seconds for run in runs]),
        row("events each got", [run.events for run in runs]),
    )
    events = sum(run.events for run in runs)
    notes = (
        f"builds started: {builds:.0f}",
        f"processor of the binder: {used:.2f} s for {events} events, {used / events * 1e6:.0f} µs each",
        f"binder's memory: {memory:.0f} MB",
    )
    return Table(f"{n} launches of one repository that is not built", "seconds, events", rows, notes)
