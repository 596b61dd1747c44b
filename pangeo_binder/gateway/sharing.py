"""Lets a launch that may have one Dask cluster get the one it has from a request for a new one.

Stock notebooks begin with `GatewayCluster()`, which requests a cluster and shuts it down when its object is closed or
collected, also when the cell is run again. So each request that got a cluster is a holder of it, and the cluster is
stopped when the last holder shuts it down. The hub, which creates a launch's first cluster, holds none. Runs in the
gateway; holders are in its memory, so after a restart the first one that shuts a cluster down stops it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiohttp import web
from dask_gateway_server.models import Cluster

from ..answers import read_object

_TIMEOUT = aiohttp.ClientTimeout(total=5)
_COUNTS = "/json/counts.json"
"""Every scheduler serves its counts there, next to its dashboard: `distributed.http.scheduler.json`."""


class Holders:
    """How many requests hold each cluster."""

    def __init__(self) -> None:
        self._held: dict[str, int] = {}

    def add(self, name: str, active: Iterable[str]) -> None:
        """Note one more holder of the cluster `name`, and forget all clusters that are not `active`."""
        kept = {each: self._held[each] for each in active if each in self._held}
        self._held = {**kept, name: self._held.get(name, 0) + 1}

    def has(self, name: str) -> bool:
        """Return whether a request holds the cluster."""
        return name in self._held

    def remove(self, name: str) -> bool:
        """Note that a holder shuts the cluster down; return whether others still hold it."""
        left = self._held.pop(name, 0) - 1
        if left > 0:
            self._held[name] = left
        return left > 0


@dataclass(frozen=True, slots=True)
class Usage:
    """What a scheduler reports about its use."""

    has_work: bool
    """Whether it has tasks that run or wait."""
    clients: int
    """How many clients are connected."""


async def usage_of(session: aiohttp.ClientSession, cluster: Cluster) -> Usage | None:
    """Return the use of a running cluster; None if its scheduler, which runs launched code, does not report it."""
    if not cluster.dashboard_address:
        return None
    try:
        url = f"{cluster.dashboard_address}{_COUNTS}"
        async with session.get(url, timeout=_TIMEOUT, allow_redirects=False, raise_for_status=True) as response:
            return _usage(await read_object(response))
    except (aiohttp.ClientError, TimeoutError, KeyError, TypeError, ValueError):
        return None


def _usage(counts: dict[str, Any]) -> Usage:
    # the scheduler counts one client of its own, which holds the tasks of `fire_and_forget`
    waiting, clients = int(counts.get("unrunnable", 0)), int(counts["clients"]) - 1
    # without a worker, tasks are queued and no count names them
    queued = int(counts["tasks"]) - int(counts["released"]) - int(counts["erred"]) if not counts["workers"] else 0
    return Usage(int(counts["processing"]) + waiting + max(0, queued) > 0, clients)


@web.middleware
async def keep_shared(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Answer a launch that shuts its cluster down as usual, but keep the cluster while others of it hold it."""
    name = request.match_info.get("cluster_name")
    kind = request.headers.get("Authorization", "").partition(" ")[0]
    if request.method != "DELETE" or name is None or kind != "jupyterhub":  # a scheduler has a token of another kind
        return await handler(request)
    try:
        user = await request.app["authenticator"].authenticate(request)
    except web.HTTPException:
        return await handler(request)  # dask-gateway's own handler answers it
    backend = request.app["backend"]
    cluster = await backend.get_cluster(name)
    if cluster is not None and user.has_permissions(cluster) and backend.holders.remove(name):
        return web.Response(status=204)
    return await handler(request)
