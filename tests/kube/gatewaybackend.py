"""Our backend where no scheduler really runs: messages to schedulers go to an address the test listens at."""

from __future__ import annotations

from pathlib import Path

from pangeo_binder.gateway.kube import KubeLaunchBackend


class StandBackend(KubeLaunchBackend):
    """Finds schedulers where the file `scheduler` in its own directory says, since simulated pods have no address."""

    async def sync_cluster(self, cluster_name: str) -> None:
        await super().sync_cluster(cluster_name)
        address = Path(self.parent.config_file).parent / "scheduler"
        if cluster_name in self.clusters and address.exists():
            self.clusters[cluster_name].api_address = address.read_text()
