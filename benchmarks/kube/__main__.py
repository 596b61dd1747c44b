"""`python -m benchmarks.kube`: starts a cluster of its own, fills it, counts the requests of launches."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import click

from benchmarks.launch.__main__ import surroundings
from pangeo_binder.hub.kube.namespace_reaper import NamespaceReaper, OwnNamespaces
from pangeo_binder.kube.api import KubeApi
from tests.kube.hubstand import new_launch
from tests.stack.control_plane import ControlPlane, control_plane
from tests.stack.tools import tools

from .crowd import Crowd
from .meter import Tally
from .stand import MeteredHub, metered_hub, pretend_nodes


@dataclass(frozen=True, slots=True)
class Counted:
    """The counts with `running` launches in the cluster."""

    running: int
    launches: int
    seconds: float
    """Of the launches counted."""
    start: Tally
    """The lists and watches of a hub from its start to the end of its first launch."""
    each: Tally
    """The requests of `launches` launches together, from before they started until they were gone."""
    idle: Tally
    """The hub's requests in `idle_seconds` without any launch."""
    idle_seconds: float
    reaper: Tally
    """One round of the reaper."""


def is_standing(name: str) -> bool:
    """Whether the hub makes a request periodically, and not for a launch."""
    return name.startswith(("list ", "watch "))


async def count(plane: ControlPlane, folder: Path, running: int, sizes: tuple[int, float]) -> Counted:
    """Return a new hub's requests for `launches` launches, one after the other, then in some seconds of rest."""
    launches, rest = sizes
    async with metered_hub(plane, folder) as hub:
        await hub.one(new_launch())
        start = hub.meter.tally.copy()
        began = time.monotonic()
        for _ in range(launches):
            await hub.one(new_launch())
        seconds, after = time.monotonic() - began, hub.meter.tally.copy()
        await asyncio.sleep(rest)
        idle = hub.meter.tally.since(after)
        return Counted(running, launches, seconds, start, after.since(start), idle, rest, await _reaped(hub))


async def _reaped(hub: MeteredHub) -> Tally:
    before = hub.meter.tally.copy()
    api = KubeApi(str(hub.kubeconfig))
    reaper = NamespaceReaper(OwnNamespaces(api), _alive)
    await reaper.reap()
    await api.close()
    return hub.meter.tally.since(before)


async def _alive(owner: str) -> bool:
    """Return true for every server: the hub does not know the crowd."""
    return True


async def crowd(plane: ControlPlane, folder: Path) -> Crowd:
    """Return an empty crowd, whose pods will be like those that the hub makes."""
    launch = new_launch()
    async with metered_hub(plane, folder) as hub:
        await hub.launch(launch)
        pod = await asyncio.to_thread(hub.pod, launch)
        await asyncio.to_thread(hub.end, launch)
    return Crowd(plane, pod, launch)


def report(counted: Counted) -> str:
    """Return the counts as a table for people."""
    n, each = counted.launches, counted.each
    lines = [f"{counted.running} launches running; {n} counted in {counted.seconds:.0f} s"]
    lines.append(f"  {'per launch':<34} {'requests':>9} {'refused':>8} {'sent, B':>9} {'received, B':>12}")
    own = sorted(name for name in each.requests if not is_standing(name))
    for name in own:
        lines.append(_row(name, each, [name], n))
    lines.append(_row("all of them", each, own, n))
    for title, tally in (
        ("at the hub's start, with its first launch", counted.start),
        ("while they were launched", each),
        (f"in {counted.idle_seconds:.0f} s of rest", counted.idle),
        ("one round of the reaper", counted.reaper),
    ):
        lines.append(f"  {title:<42} {'requests':>9} {'received, B':>12} {'read, B':>12} {'events':>6}")
        lines += [_standing(name, tally) for name in sorted({*tally.requests, *tally.received}) if is_standing(name)]
    return "\n".join(lines)


def _row(title: str, tally: Tally, names: list[str], n: int) -> str:
    of = [sum(each[name] for name in names) / n for each in (tally.requests, tally.refused, tally.sent, tally.received)]
    return f"  {title:<34} {of[0]:9.2f} {of[1]:8.2f} {of[2]:9.0f} {of[3]:12.0f}"


def _standing(name: str, tally: Tally) -> str:
    events = tally.lines[name] if name.startswith("watch") else 0
    return f"    {name:<40} {tally.requests[name]:9} {tally.received[name]:12} {tally.plain[name]:12} {events:6}"


@click.command()
@click.option("--running", type=click.IntRange(0, 20000), multiple=True, default=(0, 1000, 5000), show_default=True)
@click.option("--launches", type=click.IntRange(1, 1000), default=20, show_default=True, help="Counted at each size.")
@click.option("--rest", type=float, default=60, show_default=True, help="Seconds without launches, counted too.")
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Write the counts here too.")
def main(running: tuple[int, ...], launches: int, rest: float, json_file: Path | None) -> None:
    """Count the requests of a launch to Kubernetes, with --running launches running."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))
    print(surroundings(), flush=True)
    with (
        tempfile.TemporaryDirectory(prefix="pangeo-binder-benchmark-") as folder,
        control_plane(tools(), Path(folder) / "plane") as plane,
    ):
        pretend_nodes(plane)
        found = asyncio.run(_measure(plane, Path(folder), tuple(sorted(running)), (launches, rest)))
    if json_file:
        kept = [{"running": each.running, "each": each.each.requests, "start": each.start.plain} for each in found]
        json_file.write_text(json.dumps(kept, indent=1))


async def _measure(
    plane: ControlPlane, folder: Path, running: tuple[int, ...], sizes: tuple[int, float]
) -> list[Counted]:
    found, others = [], await crowd(plane, folder / "first")
    for size in running:
        began = time.monotonic()
        await others.grow(size)
        filled = time.monotonic() - began
        found.append(await count(plane, folder / f"at-{size}", size, sizes))
        load = " ".join(f"{each:.1f}" for each in os.getloadavg())
        print(f"\n{report(found[-1])}\n  filled in {filled:.0f} s; load average afterwards: {load}", flush=True)
    return found


if __name__ == "__main__":
    main()
