"""`python -m benchmarks.launch`: starts its own stack, measures, prints small tables, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import json
import os
import platform
import resource
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from .clients import clients
from .crowds import arrivals, idle, wedged
from .plainhub import PlainHub, plain_hub
from .scenarios import Bench, burst, sequential, shared_build, stuck, throng
from .stack import MeasuredStack, measured_stack
from .table import Table

SCENARIOS = ("sequential", "burst", "throng", "stuck", "wedged", "arrivals", "idle", "full", "build")
_FILES = 8192
"""How many files this process and the stack may open: each of a thousand clients is one in both."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How large the scenarios are."""

    launches: int
    at_once: int
    repetitions: int
    wedged: tuple[int, ...]
    arrivals: int
    followers: int


@click.command()
@click.option("--only", type=click.Choice(SCENARIOS), multiple=True, help="Measure only this; may be repeated.")
@click.option("--launches", type=click.IntRange(2, 1000), default=40, show_default=True, help="One after another.")
@click.option("--burst", "at_once", type=click.IntRange(1, 200), default=100, show_default=True, help="All at once.")
@click.option("--repetitions", type=click.IntRange(1, 20), default=5, show_default=True, help="Of the burst.")
@click.option(
    "--wedged", type=click.IntRange(1, 400), multiple=True, default=(10, 200), show_default=True, help="Never up."
)
@click.option("--arrivals", type=click.IntRange(1, 400), default=80, show_default=True, help="Two every second.")
@click.option("--followers", type=click.IntRange(1, 1500), default=1000, show_default=True, help="Idle pages.")
@click.option("--seconds", type=int, default=1800, show_default=True, help="Stop after this time in any case.")
@click.option(
    "--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Also write the tables to this file."
)
def main(only: tuple[str, ...], seconds: int, json_file: Path | None, **sizes: Any) -> None:
    """Measure the cost of a launch through the binder, compared with the hub alone."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))
    print(conditions())
    tables: list[Table] = []
    files, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files < _FILES:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(_FILES, most), most))
    with measured_stack() as stack, plain_hub() as plain:
        asyncio.run(asyncio.wait_for(_measure(stack, plain, (only or SCENARIOS, Sizes(**sizes)), tables), seconds))
    if json_file:
        body = {"conditions": conditions(), "tables": [table.as_json() for table in tables]}
        json_file.write_text(json.dumps(body, indent=1))


async def _measure(
    stack: MeasuredStack, plain: PlainHub | None, what: tuple[tuple[str, ...], Sizes], into: list[Table]
) -> None:
    async with clients(stack, plain) as ways:
        async for table in _tables(Bench(stack, ways), *what):
            into.append(table)
            load = " ".join(f"{load:.1f}" for load in os.getloadavg())
            print(f"\n{table}\n  load average afterwards: {load}", flush=True)


async def _tables(bench: Bench, wanted: tuple[str, ...], sizes: Sizes) -> AsyncIterator[Table]:
    await asyncio.to_thread(bench.stack.wait_idle)
    if "sequential" in wanted:
        yield await sequential(bench, bench.stack.repositories.bare, sizes.launches)
    if "burst" in wanted:
        yield await burst(bench, sizes.at_once, sizes.repetitions)
    if "throng" in wanted:
        yield await throng(bench, 160)
    if "stuck" in wanted:
        yield await stuck(bench, 10)
    for k in sizes.wedged if "wedged" in wanted else ():
        yield await wedged(bench, k)
    if "arrivals" in wanted:
        yield await arrivals(bench, sizes.arrivals)
    if "idle" in wanted:
        yield await idle(bench, sizes.followers)
    if "full" in wanted or "build" in wanted:
        # this build fills the cache of packages, so that the build below uses a warm cache
        await bench.ended(await bench.clients.through_binder(bench.stack.repositories.full))
    if "full" in wanted:
        yield await sequential(bench, bench.stack.repositories.full, max(2, sizes.launches // 4))
    if "build" in wanted:
        yield await shared_build(bench, sizes.at_once)


def conditions() -> str:
    """Return the time, commit, Python version, cores and load average of this measurement."""
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    load = " ".join(f"{load:.1f}" for load in os.getloadavg())
    return (
        f"{time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime())}, commit {commit.stdout.strip() or 'unknown'}, "
        f"Python {platform.python_version()}, {os.cpu_count()} cores, load average {load}"
    )


if __name__ == "__main__":
    main()
