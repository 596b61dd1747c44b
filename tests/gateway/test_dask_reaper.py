"""The reaper stops clusters that are too old; a cluster that cannot be stopped does not delay the others."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from pangeo_binder.gateway.reaper import Reaper


@dataclass
class Cluster:
    name: str
    username: str
    ends_at: float


class Clusters:
    """Clusters of which some cannot be stopped."""

    log = logging.getLogger("clusters")

    def __init__(self, *clusters: Cluster, stuck: str = "") -> None:
        self.clusters = list(clusters)
        self.stuck = stuck

    async def list_clusters(self, username: str | None = None) -> list[Cluster]:
        return [cluster for cluster in self.clusters if username in (None, cluster.username)]

    async def stop_cluster(self, cluster_name: str) -> None:
        if cluster_name == self.stuck:
            raise OSError(cluster_name)
        self.clusters = [cluster for cluster in self.clusters if cluster.name != cluster_name]

    def ends_at(self, cluster: Cluster) -> float:
        return cluster.ends_at


@pytest.mark.parametrize(("stuck", "left"), [("", ["young"]), ("old", ["old", "young"])])
async def test_old_clusters_are_stopped(stuck: str, left: list[str]) -> None:
    listed = Cluster("old", "u/", 1.0), Cluster("older", "u/", 0.5), Cluster("young", "v/", float("inf"))
    clusters = Clusters(*listed, stuck=stuck)
    nowhere = SimpleNamespace(jupyterhub_api_url="http://127.0.0.1:1/hub/api", jupyterhub_api_token="t")
    reaper = Reaper(clusters, nowhere)
    for _ in range(3):  # a hub that does not answer is no reason to stop anything
        await reaper.reap()
    assert [cluster.name for cluster in clusters.clusters] == left
