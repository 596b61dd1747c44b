"""dask-gateway's local backend, limited by launch: clusters are processes of this machine.

Runs in the gateway of the local profile. `launches` holds what is common to all backends.
"""

from __future__ import annotations

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
from ..local.processes import LAUNCH, STATE_DIR
from ..model import Launch
from .launches import LaunchBackendMixin
from .notices import MESSAGE, add_message, launch_cluster
from .options import Runtime

_FAILED = "The scheduler of cluster {} ended by itself or did not start. Make another cluster: gateway.new_cluster()"


class LocalLaunchBackend(LaunchBackendMixin, UnsafeLocalBackend):
    """A backend whose clusters are processes of this machine, each in its launch's own environment.

    The root-capable LocalBackend is not used: its `setup_working_directory` changes the owner of `/`.
    """

    homes = Unicode(help="The directory that holds the launches' homes.", config=True)
    state_dir = Unicode(help="The stack's state directory, which marks all its processes.", config=True)
    storage_url = Unicode(help="The storage service's credentials API.", config=True)
    storage_token = Unicode(help="The gateway's token for the storage service.", config=True)

    async def setup(self, app: web.Application) -> None:
        """Add the middleware that puts the reason of a cluster's failure into answers, and start the backend."""
        app.middlewares.append(add_message)
        await super().setup(app)

    async def get_cluster(self, cluster_name: str, wait: bool = False) -> Cluster | None:
        """Return a cluster, with a message if it failed; None if there is no such cluster."""
        stock: Cluster | None = await super().get_cluster(cluster_name, wait)
        if stock is None or stock.status != ClusterStatus.FAILED:
            return stock
        return launch_cluster(stock, {}, {MESSAGE: _FAILED.format(cluster_name)})

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
        return Runtime(str(layer / "bin" / "python"), {**await self._storage_environment(launch), **environment})

    def get_worker_command(self, cluster: Any, worker_name: str, scheduler_address: str | None = None) -> list[str]:
        """Return the stock command; the worker listens only on loopback, not on its default of all interfaces."""
        command: list[str] = super().get_worker_command(cluster, worker_name, scheduler_address)
        return [*command, "--host", self.default_host]

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
