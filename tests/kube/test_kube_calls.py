"""A launch makes the same few requests to Kubernetes however many launches run, and never lists them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.kube.__main__ import count, crowd, is_standing
from benchmarks.kube.meter import Tally
from benchmarks.kube.stand import pretend_nodes
from tests.stack.control_plane import ControlPlane
from tests.stack.control_plane import control_plane as run_control_plane
from tests.stack.tools import ClusterTools

LAUNCHES, REST = 2, 15


@pytest.fixture(scope="module")
def pretending(cluster_tools: ClusterTools, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A control plane of its own: other tests' pods must not run."""
    with run_control_plane(cluster_tools, tmp_path_factory.mktemp("pretending")) as plane:
        pretend_nodes(plane)
        yield plane


def answered(tally: Tally) -> dict[str, int]:
    """Return launches' own requests without retries, because a new namespace may refuse a pod at first."""
    return {name: n - tally.refused[name] for name, n in tally.requests.items() if not is_standing(name)}


async def test_a_launch_makes_the_same_requests_however_many_run(pretending: ControlPlane, tmp_path: Path) -> None:
    others = await crowd(pretending, tmp_path / "first")
    alone = await count(pretending, tmp_path / "alone", 0, (LAUNCHES, 0))
    await others.grow(50)
    among = await count(pretending, tmp_path / "among", 50, (LAUNCHES, REST))
    assert among.start.requests["list pods"] == 2, "the hub has seen the others"
    assert among.start.plain["list pods"] > 50 * alone.start.plain["list pods"]
    assert answered(alone.each) == answered(among.each) and answered(among.each)["create pods"] == LAUNCHES
    assert not among.each.requests["list pods"] and not among.idle.requests["list pods"]
    assert among.idle.requests["watch pods"] >= 1, "the watch continued where it ended"
    assert among.reaper.requests.total() == 1
