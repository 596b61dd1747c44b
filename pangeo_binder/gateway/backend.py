"""dask-gateway's local backend, bounded by launches: how many clusters, of what, and for how long.

Runs in the gateway. The limits themselves are decided in `limits` and `options`; who asks, in `auth`.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from pathlib import Path
from typing import Any

import aiohttp
import psutil
from aiohttp import web
from dask_gateway_server.backends.base import PublicException
from dask_gateway_server.backends.local import UnsafeLocalBackend
from traitlets import Unicode

from ..layer import layer_of, search_path
from ..model import Launch
from ..processes import LAUNCH, STATE_DIR
from .auth import LaunchUser
from .options import Runtime, options_for
from .reaper import Reaper


class LaunchBackend(UnsafeLocalBackend):
    """Clusters as processes of this machine, each in its launch's own environment.

    The root-capable LocalBackend is not used: its `setup_working_directory` changes the owner of `/`.
    """

    homes = Unicode(help="The directory that holds the launches' homes.", config=True)
    state_dir = Unicode(help="The stack's state directory, which marks all its processes.", config=True)
    storage_url = Unicode(help="The storage service's vending API.", config=True)
    storage_token = Unicode(help="The gateway's token for the storage service.", config=True)

    async def setup(self, app: web.Application) -> None:
        """Start the backend, its route for the hub and its reaper."""
        self._starting: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self.cluster_options = self._options
        await super().setup(app)
        app.router.add_delete("/api/v1/launches/{user}/{server:.*}", self._end_launch)
        app.router.add_get("/api/v1/launches/", self._list_launches)
        self._authenticator = app["authenticator"]
        self.task_pool.spawn(Reaper(self, self._authenticator).loop())

    async def _end_launch(self, request: web.Request) -> web.Response:
        """Stop all clusters of a launch; for the hub alone."""

        async def end(request: web.Request) -> web.Response:
            if not request["user"].may_end:
                raise web.HTTPForbidden(reason="Only the hub may end a launch's clusters.")
            owner = f"{request.match_info['user']}/{request.match_info['server']}"
            for cluster in await self.list_clusters(username=owner):
                await self.stop_cluster(cluster.name)
            return web.Response(status=204)

        response: web.Response = await self._authenticator.authenticate_and_handle(request, end)
        return response

    async def _list_launches(self, request: web.Request) -> web.Response:
        """Tell the operator's command of all clusters."""

        async def tell(request: web.Request) -> web.Response:
            if not request["user"].may_look:
                raise web.HTTPForbidden(reason="Only the operator may look at all clusters.")
            return web.json_response([self._told(cluster) for cluster in self.db.list_clusters()])

        response: web.Response = await self._authenticator.authenticate_and_handle(request, tell)
        return response

    def _told(self, cluster: Any) -> dict[str, Any]:
        return {
            "name": cluster.name,
            "owner": cluster.username,
            "status": cluster.model_status.name,
            "workers": len(cluster.active_workers()),
            "max_workers": cluster.config.cluster_max_workers,
        }

    async def start_cluster(self, user: LaunchUser, cluster_options: dict[str, Any]) -> str:
        """Start one more cluster for the launch, or refuse with the number it may have."""
        if user.launch is None:
            raise PublicException("Only a launched session may have Dask clusters.")
        assert user.launch.grant.dask is not None
        allowed = user.launch.grant.dask.clusters
        # counting and creating must not be split by another request of the same launch
        async with self._starting[user.name]:
            active = await self.list_clusters(username=user.name)
            if len(active) >= allowed:
                names = ", ".join(cluster.name for cluster in active)
                raise PublicException(
                    f"This launch may have {allowed} Dask cluster{'s' if allowed != 1 else ''} at a time and has"
                    f" {len(active)}. Connect to it with Gateway().connect(name) or shut it down first: {names}"
                )
            name: str = await super().start_cluster(user, cluster_options)
            return name

    async def _options(self, user: LaunchUser) -> Any:
        if user.launch is None or user.launch.grant.dask is None:
            raise PublicException("Only a launched session may have Dask clusters.")
        runtime = await self._runtime(user.launch)
        return options_for(user.launch.grant.dask, runtime, set(self.cluster_config_class.class_trait_names()))

    async def _runtime(self, launch: Launch) -> Runtime:
        """Return the session's own interpreter and the environment its workers need, storage included."""
        prefix, layer = Path(launch.environment.prefix), layer_of(Path(self.homes), launch.id)
        environment = {
            "HOME": str(layer.parent),
            "PATH": search_path(layer, prefix),
            "VIRTUAL_ENV": str(layer),
            LAUNCH: launch.id,
            STATE_DIR: self.state_dir,
        }
        return Runtime(str(layer / "bin" / "python"), {**await self._storage_environment(launch), **environment})

    async def _storage_environment(self, launch: Launch) -> dict[str, str]:
        if launch.grant.storage is None:
            return {}
        url = f"{self.storage_url}/launches/{launch.id}/environment"
        headers = {"Authorization": f"Bearer {self.storage_token}"}
        try:
            async with self.session.get(url, headers=headers, raise_for_status=True) as response:
                environment: dict[str, str] = (await response.json())["environment"]
                return environment
        except (aiohttp.ClientError, TimeoutError):
            raise PublicException(
                "The storage service did not answer, so the workers would have no scratch; try again in a minute."
            ) from None

    def _check_status(self, o: Any) -> bool:
        """Return whether a process lives. After a restart ours are nobody's children and may stay as zombies."""
        try:
            return bool(psutil.Process(o.state.get("pid") or 0).status() != psutil.STATUS_ZOMBIE)
        except psutil.Error:
            return False
