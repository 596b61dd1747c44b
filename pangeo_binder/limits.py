"""Turns a launch's DaskGrant into the limits of one cluster, for whoever makes it (gateway or hub). Pure.

A launch's clusters share its grant evenly, so that all of them together can never exceed it whatever each is asked for.
Schedulers do not count: they do no work of the user's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from .model import DaskGrant

GIB = 2**30


@dataclass(frozen=True, slots=True)
class ClusterLimits:
    """What one cluster may have."""

    workers: int
    worker_cores: float
    worker_memory_bytes: int

    @property
    def worker_threads(self) -> int:
        """Threads of a worker: a part core still needs one."""
        return max(1, math.ceil(self.worker_cores))


def cluster_limits(grant: DaskGrant, worker_cores: float, worker_memory_bytes: int) -> ClusterLimits:
    """Return the limits of one of the grant's clusters whose workers have `worker_cores` and `worker_memory_bytes`.

    A worker is never larger than the grant's; smaller ones are no reason to have more than the grant's number.
    """
    cores = min(worker_cores, grant.worker_cores)
    memory = min(worker_memory_bytes, grant.worker_memory_bytes)
    fit = min(grant.workers, int(grant.cores // cores), grant.memory_bytes // memory)
    return ClusterLimits(fit // grant.clusters, cores, memory)
