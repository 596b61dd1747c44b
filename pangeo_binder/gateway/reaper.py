"""Stops clusters whose server is gone or too old, for when the hub could not say so itself.

The hub ends a launch's clusters when its server ends; if one of the two was down at that moment, this finds them.
Runs in the gateway.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, Protocol

from .. import metrics
from ..liveness import HubIsAlive, MissingServers

PERIOD_SECONDS = 10.0
"""Two rounds find a dead server, so its clusters are gone within 30 s."""


class Clusters(Protocol):
    """What the reaper needs of a backend."""

    log: Any

    async def list_clusters(self, username: str | None = None) -> list[Any]:
        """Return the active clusters, of one owner or all."""

    async def stop_cluster(self, cluster_name: str) -> None:
        """Stop a cluster."""

    def ends_at(self, cluster: Any) -> float:
        """Return when a cluster has to be gone, in seconds since the epoch."""


class Reaper:
    """Compares active clusters with the hub's servers, again and again."""

    def __init__(self, backend: Clusters, authenticator: Any) -> None:
        self._backend = backend
        self._missing = MissingServers(HubIsAlive(authenticator.jupyterhub_api_url, authenticator.jupyterhub_api_token))

    async def loop(self) -> None:
        """Reap until cancelled; a round that fails is logged and tried again."""
        while True:
            await asyncio.sleep(PERIOD_SECONDS)
            try:
                await self.reap()
            except Exception:
                self._backend.log.exception("A round of the reaper failed")

    async def reap(self) -> None:
        """Stop the clusters of owners that were found dead twice, and those older than their launch may be."""
        active = await self._backend.list_clusters()
        for cluster in active:
            if self._backend.ends_at(cluster) < time.time():
                await self._stop(cluster, "its launch is too old")
        for owner in await self._missing.find(cluster.username for cluster in active):
            for cluster in await self._backend.list_clusters(username=owner):
                await self._stop(cluster, f"the server of {owner} is gone")

    async def _stop(self, cluster: Any, why: str) -> None:
        self._backend.log.warning("Stopping cluster %s: %s", cluster.name, why)
        try:
            await self._backend.stop_cluster(cluster.name)
        except Exception:  # one that cannot be stopped now must not keep the others
            self._backend.log.exception("Cluster %s could not be stopped", cluster.name)
            return
        metrics.CLUSTERS_REAPED.inc()
