"""Stops clusters whose server is gone or too old, if the hub could not stop them itself.

The hub ends a launch's clusters when its server ends. The reaper finds those that remain if the hub or the gateway was
down at that moment. Runs in the gateway.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, Protocol

from .. import metrics
from ..liveness import HubIsAlive, MissingServers

PERIOD_SECONDS = 10.0
"""A server counts as dead after two rounds, so its clusters are gone within 30 s."""


class Clusters(Protocol):
    """The part of a backend that the reaper uses."""

    log: Any

    async def list_clusters(self, username: str | None = None) -> list[Any]:
        """Return the active clusters of one owner, or of all."""

    async def stop_cluster(self, cluster_name: str) -> None:
        """Stop a cluster."""

    def ends_at(self, cluster: Any) -> float:
        """Return when a cluster must end at the latest, in seconds since the epoch."""


class Reaper:
    """A periodic comparison of the active clusters with the hub's servers."""

    def __init__(self, backend: Clusters, authenticator: Any) -> None:
        self._backend = backend
        self._missing = MissingServers(HubIsAlive(authenticator.jupyterhub_api_url, authenticator.jupyterhub_api_token))

    async def loop(self) -> None:
        """Reap until cancelled; log a round that fails and continue."""
        while True:
            await asyncio.sleep(PERIOD_SECONDS)
            try:
                await self.reap()
            except Exception:
                self._backend.log.exception("The reaper failed; it tries again in %s s", PERIOD_SECONDS)

    async def reap(self) -> None:
        """Stop the clusters of owners that were missing twice, and those older than their launch's maximum age."""
        active = await self._backend.list_clusters()
        for cluster in active:
            if self._backend.ends_at(cluster) < time.time():
                await self._stop(cluster, "its launch reached its maximum age")
        for owner in await self._missing.find(cluster.username for cluster in active):
            for cluster in await self._backend.list_clusters(username=owner):
                await self._stop(cluster, f"the server of {owner} is gone")

    async def _stop(self, cluster: Any, why: str) -> None:
        self._backend.log.warning("Stopping cluster %s: %s", cluster.name, why)
        try:
            await self._backend.stop_cluster(cluster.name)
        except Exception:  # one that cannot be stopped must not block the others
            self._backend.log.exception("Could not stop cluster %s", cluster.name)
            return
        metrics.CLUSTERS_REAPED.inc()
