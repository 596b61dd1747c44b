"""Two and three binder processes at a real hub: limits are reached exactly and never exceeded, no seat is lost.

The same at full size is a benchmark: `python -m benchmarks.admission`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.launch.replicahub import NETWORKS, Replica, ReplicaHub, clicks, replicas, share_out
from tests.stack.local import until

pytestmark = pytest.mark.timeout(300)

RULES = """\
tiers:
  plain: {server: {cpu: 1, memory: 1G, idle: 10m, max_age: 1h}, dask: none, storage: none}
  dask:
    server: {cpu: 1, memory: 1G, idle: 10m, max_age: 1h}
    dask: {clusters: 1, workers: 2, cores: 2, memory: 2G, worker: {cores: 1, memory: 1G}, idle: 10m, start: none}
    storage: none
rules:
  - {name: course, repo: gh/course/*, tier: dask, dask_cores: 8}
  - {name: lab, repo: gh/lab/*, tier: plain, per_network: 3}
  - {repo: "*", tier: plain, servers: 24}
"""
NewHub = Callable[..., ReplicaHub]


@pytest.fixture
def new_hub(tmp_path: Path) -> Iterator[NewHub]:
    started: list[ReplicaHub] = []

    def start(**settings: float) -> ReplicaHub:
        started.append(ReplicaHub(tmp_path, **settings).start())  # type: ignore[arg-type]  # numbers as its fields
        return started[-1]

    yield start
    for each in started:
        each.stop()


def all_ended(binders: list[Replica], count: int) -> None:
    until("every click has ended", lambda: sum(each.ended for each in binders) == count, 240)


def total(binders: list[Replica], outcome: str) -> int:
    return sum(each.count(outcome) for each in binders)


@pytest.mark.parametrize("binders", [2, 3])
def test_the_total_is_reached_exactly(new_hub: NewHub, binders: int) -> None:
    hub = new_hub(binders=binders)
    with replicas(hub, binders, f"total: {{servers: 25}}\n{RULES}") as running:
        share_out(running, clicks(120))
        all_ended(running, 120)
        assert (total(running, "ready"), total(running, "quota_exceeded")) == (25, 95)
    assert hub.running["total/servers"] == hub.most["total/servers"] == 25
    assert hub.most["rule/course/dask_cores"] <= 8
    assert all(hub.most[f"rule/lab/network/{network}"] <= 3 for network in NETWORKS)


def test_every_limit_of_a_rule_is_reached_exactly(new_hub: NewHub) -> None:
    hub = new_hub(binders=2)
    with replicas(hub, 2, RULES) as running:
        share_out(running, clicks(120))
        all_ended(running, 120)
        assert total(running, "ready") == 4 + 3 * 3 + 24
    most = hub.most
    assert most == hub.running
    assert most["rule/course/dask_cores"] == most["total/dask_cores"] == 8
    assert [most[f"rule/lab/network/{network}"] for network in NETWORKS] == [3, 3, 3]
    assert most["total/servers"] == 37


def test_the_seats_of_a_killed_binder_come_back(new_hub: NewHub) -> None:
    """It dies while its launches hold seats and have no servers; those who wait at the others get the seats."""
    hub = new_hub(binders=3, expiry=6, grace=4)
    with replicas(hub, 3, f"total: {{servers: 12}}\n{RULES}", renew=2, queue=200, build=0.1) as running:
        killed, *others = running
        killed.click(*clicks(6))
        until("the first has six seats", lambda: killed.count("seated") == 6, 60)
        share_out(others, clicks(20))
        until("all seats are taken", lambda: total(running, "seated") == 12, 60)
        killed.kill()
        until("the others have all seats", lambda: total(others, "seated") == 12, 60)
        (hub.folder / "gate").touch()
        until("twelve servers run", lambda: total(others, "ready") == 12, 60)
        assert hub.running["total/servers"] == hub.most["total/servers"] == 12


def test_a_killed_hub_loses_no_seat(new_hub: NewHub) -> None:
    """Servers run, launches hold seats, others wait: after the restart there are neither more nor fewer."""
    hub = new_hub(binders=2)
    policy = f"total: {{servers: 12}}\n{RULES}"
    with replicas(hub, 2, policy, renew=2) as running:
        share_out(running, clicks(4))
        until("four servers run", lambda: total(running, "ready") == 4, 60)
    with replicas(hub, 2, policy, renew=2, build=0.1) as running:
        share_out(running, clicks(20))
        until("the rest is taken", lambda: (total(running, "seated"), total(running, "quota_exceeded")) == (8, 12), 60)
        hub.kill()
        hub.start()
        share_out(running, clicks(20))
        until("the new clicks are refused", lambda: total(running, "quota_exceeded") == 12 + 20, 60)
        (hub.folder / "gate").touch()
        until("those with a seat have a server", lambda: total(running, "ready") == 8, 60)
    assert hub.running["total/servers"] == hub.most["total/servers"] == 12
