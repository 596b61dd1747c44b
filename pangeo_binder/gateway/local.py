"""dask-gateway's local backend, limited by launch: clusters are processes of this machine.

Runs in the gateway of the local profile. `launches` holds what is common to all backends.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any

import aiohttp
import psutil
from aiohttp import web
from dask_gateway_server.backends.base import PublicException
from dask_gateway_server.backends.local import UnsafeLocalBackend
from dask_gateway_server.models import Cluster, ClusterStatus
from traitlets import Unicode

from ..answers import read_object
from ..local.layer import launch_environment, layer_of
from ..local.processes import LAUNCH, STATE_DIR, launched
from ..loopback import LOOPBACK_NAMES, WRONG_HOST, is_named
from ..model import Launch
from .launches import LaunchBackendMixin
from .notices import MESSAGE, add_message, launch_cluster
from .options import Runtime

_SAME_USER = "pangeo_binder_session.same_user"
_FAILED = "The scheduler of cluster {} ended by itself or did not start. Make another cluster: gateway.new_cluster()"


@web.middleware
async def check_host(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Refuse a request to another host name than loopback's."""
    if not is_named(request.headers.get("Host", ""), LOOPBACK_NAMES):
        return web.json_response({"error": WRONG_HOST}, status=HTTPStatus.MISDIRECTED_REQUEST)
    return await handler(request)


class LocalLaunchBackend(LaunchBackendMixin, UnsafeLocalBackend):
    """A backend whose clusters are processes of this machine, each in its launch's own environment.

    The root-capable LocalBackend is not used: its `setup_working_directory` changes the owner of `/`.
    """

    homes = Unicode(help="The directory that holds the launches' homes.", config=True)
    state_dir = Unicode(help="The stack's state directory, which marks all its processes.", config=True)
    storage_url = Unicode(help="The storage service's credentials API.", config=True)
    storage_token = Unicode(help="The gateway's token for the storage service.", config=True)

    async def setup(self, app: web.Application) -> None:
        """Add the middlewares that check the host name and explain a cluster's failure, and start the backend."""
        app.middlewares.extend((check_host, add_message))
        await super().setup(app)

    async def get_cluster(self, cluster_name: str, wait: bool = False) -> Cluster | None:
        """Return a cluster, with a message if it failed; None if there is no such cluster."""
        stock: Cluster | None = await super().get_cluster(cluster_name, wait)
        if stock is None or stock.status != ClusterStatus.FAILED:
            return stock
        return launch_cluster(stock, {}, {MESSAGE: _FAILED.format(cluster_name)})

    async def on_cluster_heartbeat(self, cluster_name: str, msg: dict[str, Any]) -> None:
        """Handle a scheduler's report, but let a worker's nanny restart it.

        The stock method ends a worker that left the scheduler, so `client.restart()` and a plugin that restarts workers
        race with it: a restart that takes longer than 3 s is interrupted.
        """
        cluster = self.db.get_cluster(cluster_name)
        if cluster is not None:
            restarting = self._restarting(cluster, set(msg["closed_workers"]))
            closed = [name for name in msg["closed_workers"] if name not in restarting]
            msg = {**msg, "active_workers": [*msg["active_workers"], *restarting], "closed_workers": closed}
        await super().on_cluster_heartbeat(cluster_name, msg)

    def _restarting(self, cluster: Any, closed: set[str]) -> set[str]:
        """Return those of the `closed` workers whose process still runs, for as long as a worker may take to start."""
        now, restarting = time.monotonic(), set()
        for name, worker in cluster.workers.items():
            if name not in closed:
                worker.closed_at = None
            elif worker.is_active() and not worker.close_expected and self._check_status(worker):
                worker.closed_at = getattr(worker, "closed_at", None) or now
                if now - worker.closed_at < self.worker_start_timeout:
                    restarting.add(name)
        return restarting

    async def all_clusters(self) -> list[dict[str, Any]]:
        """Return each cluster's state for the command `status`."""
        return [
            {
                "name": cluster.name,
                "owner": cluster.username,
                "status": cluster.model_status.name,
                "workers": len(cluster.active_workers()),
                "max_workers": cluster.config.cluster_max_workers,
            }
            for cluster in self.db.list_clusters()
        ]

    async def runtime(self, launch: Launch, ends_at: float) -> Runtime:
        """Return the session's own interpreter and the environment of its workers, with storage."""
        prefix, layer = Path(launch.local_environment.prefix), layer_of(Path(self.homes), launch.id)
        environment = {
            **launch_environment(Path(self.homes), launch.id, prefix),
            LAUNCH: launch.id,
            STATE_DIR: self.state_dir,
        }
        environment = {**await self._storage_environment(launch), **environment}
        return Runtime(str(layer / "bin" / "python"), environment, worker_preloads=(_SAME_USER,))

    def get_scheduler_command(self, cluster: Any) -> list[str]:
        """Return the stock command; the scheduler's HTTP server refuses other users of the machine."""
        command: list[str] = super().get_scheduler_command(cluster)
        return self._launched(cluster, [*command, "--preload", _SAME_USER])

    def get_worker_command(self, cluster: Any, worker_name: str, scheduler_address: str | None = None) -> list[str]:
        """Return the stock command, likewise; the worker listens only on loopback, not on its default of all."""
        command: list[str] = super().get_worker_command(cluster, worker_name, scheduler_address)
        return self._launched(cluster, [*command, "--host", self.default_host])

    def _launched(self, cluster: Any, command: list[str]) -> list[str]:
        """Return the command under the launcher that ends what it leaves."""
        return launched(command, self.state_dir, cluster.config.environment[LAUNCH])

    async def _storage_environment(self, launch: Launch) -> dict[str, str]:
        if launch.grant.storage is None:
            return {}
        url = f"{self.storage_url}/launches/{launch.id}/environment"
        headers = {"Authorization": f"Bearer {self.storage_token}"}
        try:
            async with self.session.get(url, headers=headers, raise_for_status=True) as response:
                environment: dict[str, str] = (await read_object(response))["environment"]
                return environment
        except (aiohttp.ClientError, TimeoutError, KeyError):
            raise PublicException(
                "The storage service did not answer, so workers would have no scratch storage. Try again in a minute."
            ) from None

    def _check_status(self, o: Any) -> bool:
        """Return whether a process runs. After a restart it is not a child of ours, and may stay as a zombie."""
        try:
            return bool(psutil.Process(o.state.get("pid") or 0).status() != psutil.STATUS_ZOMBIE)
        except psutil.Error:
            return False
