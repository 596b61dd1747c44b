"""`python -m benchmarks.admission`: many clicks at several binder processes, and whether the limits were kept exactly.

Starts a real JupyterHub and the binder processes for each scenario, is bounded in time, and leaves nothing.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click

from benchmarks.launch.__main__ import conditions
from tests.launch.replicahub import NETWORKS, Replica, ReplicaHub, clicks, replicas, share_out

RULES = """\
tiers:
  plain: {server: {cpu: 1, memory: 1G, idle: 10m, max_age: 1h}, dask: none, storage: none}
  dask:
    server: {cpu: 1, memory: 1G, idle: 10m, max_age: 1h}
    dask: {clusters: 1, workers: 2, cores: 2, memory: 2G, worker: {cores: 1, memory: 1G}, idle: 10m, start: none}
    storage: none
rules:
  - {name: course, repo: gh/course/*, tier: dask, dask_cores: 44}
  - {name: lab, repo: gh/lab/*, tier: plain, per_network: 8}
  - {repo: "*", tier: plain, servers: 80}
"""
TOTAL = 100
LIMITED = f"total: {{servers: {TOTAL}}}\n{RULES}"
ALL_RULES = 22 + len(NETWORKS) * 8 + 80
"""How many launches the rules let in without a total: 44 Dask cores are 22 launches."""
_LOST = 50
"""How many seats the binder that is killed holds."""
_LOOK_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Result:
    """One line of the table."""

    scenario: str
    binders: int
    clicks: int
    allowed: int
    most: float
    """The most servers at any moment, as their own log says."""
    left: float
    """How many run in the end."""
    seconds: float

    def __str__(self) -> str:
        counts = f"{self.clicks:6} {self.allowed:7} {self.most:5g} {self.left:7g}"
        return f"{self.scenario:<12} {self.binders:7} {counts} {self.seconds:8.1f}"


HEADER = f"{'scenario':<12} {'binders':>7} {'clicks':>6} {'allowed':>7} {'most':>5} {'at end':>7} {'seconds':>8}"


@contextmanager
def running(binders: int, policy: str, **settings: float) -> Iterator[tuple[ReplicaHub, list[Replica]]]:
    """Start a hub and binders; nothing of them is left."""
    with tempfile.TemporaryDirectory() as folder:
        hub = ReplicaHub(Path(folder), binders).start()
        try:
            with replicas(hub, binders, policy, **settings) as started:
                yield hub, started
        finally:
            hub.stop()


def wait(condition: Callable[[], bool], deadline: float) -> None:
    """Return once `condition` holds."""
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("The scenario did not end in time.")
        time.sleep(_LOOK_SECONDS)


def crowd(scenario: str, binders: int, count: int, deadline: float) -> Result:
    """All click at once and nobody waits: some get a server, all others are refused."""
    policy, allowed = (LIMITED, TOTAL) if scenario == "total" else (RULES, ALL_RULES)
    with running(binders, policy) as (hub, started):
        began = time.monotonic()
        share_out(started, clicks(count))
        wait(lambda: sum(each.ended for each in started) == count, deadline)
        seconds = time.monotonic() - began
        return Result(scenario, binders, count, allowed, *_servers(hub), seconds)


def killed(binders: int, count: int, deadline: float) -> Result:
    """One binder is killed while its launches hold seats; those who wait at the others get them once they expire."""
    with running(binders, LIMITED, queue=900, build=0.1) as (hub, started):
        dead, *others = started
        wanted = clicks(count)
        dead.click(*wanted[:_LOST])
        wait(lambda: dead.count("seated") == _LOST, deadline)
        share_out(others, wanted[_LOST:])
        wait(lambda: sum(each.count("seated") for each in started) == TOTAL, deadline)
        dead.kill()
        began = time.monotonic()
        wait(lambda: sum(each.count("seated") for each in others) == TOTAL, deadline)
        seconds = time.monotonic() - began
        (hub.folder / "gate").touch()
        wait(lambda: sum(each.count("ready") for each in others) == TOTAL, deadline)
        return Result("killed", binders, count, TOTAL, *_servers(hub), seconds)


def _servers(hub: ReplicaHub) -> tuple[float, float]:
    return hub.most["total/servers"], hub.running["total/servers"]


@click.command()
@click.option("--binders", type=click.IntRange(2, 8), multiple=True, default=(2, 3), show_default=True)
@click.option("--clicks", "count", type=click.IntRange(400, 5000), default=500, show_default=True)
@click.option("--seconds", type=int, default=1200, show_default=True, help="End after this time, whatever is done.")
def main(binders: tuple[int, ...], count: int, seconds: int) -> None:
    """Click many times at several binder processes at once; fails if a limit is exceeded or a seat is lost."""
    print(f"{conditions()}\n\n{HEADER}", flush=True)
    deadline = time.monotonic() + seconds
    exact = True
    for each in binders:
        for scenario in ("total", "rules", "killed"):
            how = killed(each, count, deadline) if scenario == "killed" else crowd(scenario, each, count, deadline)
            exact = exact and how.most == how.left == how.allowed
            print(how, flush=True)
    if not exact:
        raise click.ClickException("A limit was exceeded, or a seat was lost.")


if __name__ == "__main__":
    main()
