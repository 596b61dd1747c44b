"""OperatorClusters passes the contract of Clusters with the real operator on a real API server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from pangeo_binder.hub.dask.operator.clusters import OperatorClusters
from pangeo_binder.model import Launch
from tests.contracts.clusters import Clustered, ClustersContract
from tests.kube.test_operator import SETTINGS, Stand, clusters, new_launch, stand

__all__ = ["clusters", "new_launch", "stand"]


class TestOperatorClusters(ClustersContract):
    """Clusters that the hub writes for the dask-kubernetes operator."""

    @pytest.fixture
    async def clustered(
        self, stand: Stand, clusters: OperatorClusters, new_launch: Callable[..., Launch], tmp_path: Path
    ) -> AsyncIterator[Clustered]:
        config = tmp_path / "kubeconfig"
        config.write_text(stand.hub.read_text().replace(f":{stand.plane.port}", ":1"))
        away = OperatorClusters(SETTINGS, str(config))
        yield Clustered(
            clusters,
            away,
            launch=new_launch(start_workers=0),
            token="a-hub-token",
            other=new_launch(start_workers=0),
            other_token="another-hub-token",
            existing=lambda launch: [each["metadata"]["name"] for each in stand.namespaced(launch, "daskclusters")],
            secrets=(),
            away_address=":1/",
        )
        await away.close()
