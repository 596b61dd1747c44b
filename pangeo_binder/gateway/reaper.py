"""Stops clusters whose server is gone, for when the hub could not say so itself.

The hub ends a launch's clusters when its server ends; if one of the two was down at that moment, this finds them.
Runs in the gateway.
"""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from .. import metrics
from ..liveness import HubIsAlive, Missing

PERIOD_SECONDS = 10.0
"""Two rounds find a dead server, so its clusters are gone within 30 s."""


class Clusters(Protocol):
    """What the reaper needs of a backend."""

    log: Any

    async def list_clusters(self, username: str | None = None) -> list[Any]:
        """Return the active clusters, of one owner or all."""

    async def stop_cluster(self, cluster_name: str) -> None:
        """Stop a cluster."""


class Reaper:
    """Compares active clusters with the hub's servers, again and again."""

    def __init__(self, backend: Clusters, authenticator: Any) -> None:
        self._backend = backend
        self._missing = Missing(HubIsAlive(authenticator.jupyterhub_api_url, authenticator.jupyterhub_api_token))

    async def loop(self) -> None:
        """Reap until cancelled; a round that fails is logged and tried again."""
        while True:
            await asyncio.sleep(PERIOD_SECONDS)
            try:
                await self.reap()
            except Exception:
                self._backend.log.exception("A round of the reaper failed")

    async def reap(self) -> None:
        """Stop the clusters of owners that were found dead twice."""
        active = await self._backend.list_clusters()
        for owner in await self._missing.among(cluster.username for cluster in active):
            for cluster in await self._backend.list_clusters(username=owner):
                self._backend.log.warning("Stopping cluster %s: the server of %s is gone", cluster.name, owner)
                await self._backend.stop_cluster(cluster.name)
                metrics.CLUSTERS_REAPED.inc()
