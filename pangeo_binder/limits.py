"""Computes the limits of one cluster from a launch's DaskGrant, for the gateway and the hub. Pure.

A launch's clusters share its grant evenly, so together they never exceed it, whatever the user requests for each.
Schedulers do not count: they do none of the user's work.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from .model import DaskGrant

GIB = 2**30


@dataclass(frozen=True, slots=True)
class ClusterLimits:
    """The resources one cluster may use."""

    workers: int
    worker_cores: float
    worker_memory_bytes: int

    @property
    def worker_threads(self) -> int:
        """Threads of a worker; a fraction of a core still needs one."""
        return max(1, math.ceil(self.worker_cores))


def cluster_limits(grant: DaskGrant, worker_cores: float, worker_memory_bytes: int) -> ClusterLimits:
    """Return the limits of one of the grant's clusters whose workers have `worker_cores` and `worker_memory_bytes`.

    A worker is never larger than the grant's. Smaller workers do not raise the grant's number of workers.
    """
    cores = min(worker_cores, grant.worker_cores)
    memory = min(worker_memory_bytes, grant.worker_memory_bytes)
    fit = min(grant.workers, int(grant.cores // cores), grant.memory_bytes // memory)
    return ClusterLimits(fit // grant.clusters, cores, memory)
