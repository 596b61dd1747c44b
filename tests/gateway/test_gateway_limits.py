"""The limits of one cluster: a launch's clusters together never exceed its grant, whatever is requested."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pangeo_binder.gateway.options import Runtime, options_for
from pangeo_binder.limits import GIB, ClusterLimits, cluster_limits
from pangeo_binder.model import DaskGrant

GRANT = DaskGrant(1, workers=20, cores=40, memory_bytes=160 * GIB, worker_cores=2, worker_memory_bytes=8 * GIB,
                  idle_seconds=600)  # fmt: skip


def grant(clusters: int, workers: int, cores: float, memory: int, worker_cores: float = 2) -> DaskGrant:
    return DaskGrant(clusters, workers, cores, memory * GIB, worker_cores, 8 * GIB, 600)


@pytest.mark.parametrize(
    ("given_to", "cores", "memory", "expected"),
    [
        (GRANT, 2, 8 * GIB, ClusterLimits(20, 2, 8 * GIB)),
        # half the size is no reason for more workers than granted
        (GRANT, 1, 4 * GIB, ClusterLimits(20, 1, 4 * GIB)),
        # more than the grant's worker is cut to it
        (GRANT, 100, 800 * GIB, ClusterLimits(20, 2, 8 * GIB)),
        (grant(1, 20, 10, 160), 2, 8 * GIB, ClusterLimits(5, 2, 8 * GIB)),
        (grant(1, 20, 40, 20), 2, 8 * GIB, ClusterLimits(2, 2, 8 * GIB)),
        (grant(2, 5, 40, 160), 2, 8 * GIB, ClusterLimits(2, 2, 8 * GIB)),
        (grant(3, 2, 40, 160), 2, 8 * GIB, ClusterLimits(0, 2, 8 * GIB)),
    ],
)
def test_table(given_to: DaskGrant, cores: float, memory: int, expected: ClusterLimits) -> None:
    assert cluster_limits(given_to, cores, memory) == expected


@pytest.mark.parametrize(("cores", "threads"), [(0.1, 1), (1, 1), (1.5, 2), (2, 2)])
def test_a_fraction_of_a_core_has_a_thread(cores: float, threads: int) -> None:
    assert cluster_limits(GRANT, cores, GIB).worker_threads == threads


@settings(deadline=None)
@given(
    grant_=st.builds(
        grant, st.integers(1, 5), st.integers(0, 50), st.floats(1, 100), st.integers(8, 400), st.floats(0.1, 8)
    ),
    asked=st.lists(st.tuples(st.floats(0.1, 50), st.integers(GIB // 4, 50 * GIB)), min_size=5, max_size=5),
)
def test_all_clusters_together_stay_within_the_grant(grant_: DaskGrant, asked: list[tuple[float, int]]) -> None:
    limits = [cluster_limits(grant_, cores, memory) for cores, memory in asked[: grant_.clusters]]
    assert sum(each.workers for each in limits) <= grant_.workers
    assert sum(each.workers * each.worker_cores for each in limits) <= grant_.cores + 1e-6
    assert sum(each.workers * each.worker_memory_bytes for each in limits) <= grant_.memory_bytes


def test_a_limit_the_gateway_does_not_know_is_no_limit() -> None:
    runtime = Runtime("/env/bin/python", {})
    options = options_for(GRANT, runtime, known={"worker_cores"})
    with pytest.raises(AssertionError, match="would not apply"):
        options.get_configuration(options.parse_options({}), None)


def test_an_environment_with_secrets_is_not_shown() -> None:
    assert "s3cret" not in repr(Runtime("/env/bin/python", {"AWS_SECRET_ACCESS_KEY": "s3cret"}))
