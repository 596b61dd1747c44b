"""The part common to all backends: the number of clusters per launch, the routes to end or list them, the reaper.

A mixin in front of one of dask-gateway's own backends (`local`, `kube`). Runs in the gateway. `limits` and `options`
set the limits; `auth` identifies the launch.
"""

from __future__ import annotations

import asyncio
import math
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import aiohttp
from aiohttp import web
from dask_gateway_server.backends.base import Backend, PublicException
from dask_gateway_server.models import ClusterStatus
from dask_gateway_server.options import Options

from ..connections import IDLE_SECONDS
from ..model import Launch
from ..trace_http import continue_trace
from .auth import LaunchUser, check_authorization
from .bodies import check_body
from .options import Runtime, options_for
from .reaper import Reaper
from .sharing import Holders, Usage, keep_shared, usage_of

_SCHEDULER_TIMEOUT = aiohttp.ClientTimeout(total=10)
_SCHEDULER_RETRY_SECONDS = 0.1

_LAUNCHES_ONLY = "Only a launched session may have Dask clusters."


def too_many(allowed: int, names: Iterable[str]) -> PublicException:
    """Return the error for a launch that may have `allowed` clusters and has those called `names`."""
    listed = list(names)
    return PublicException(
        f"This launch may have {allowed} Dask cluster{'s' if allowed != 1 else ''} at a time and has {len(listed)}."
        f" Connect to it with Gateway().connect(name) or shut it down first: {', '.join(listed)}"
    )


class LaunchBackendMixin(Backend):
    """A mixin that limits a dask-gateway backend by launch."""

    async def setup(self, app: web.Application) -> None:
        """Start the backend, the routes for the hub and the operator, and the reaper."""
        self._starting: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self.holders = Holders()
        self.cluster_options = self._options
        app.middlewares.extend((continue_trace, check_authorization, check_body, keep_shared))
        # aiohttp keeps an idle connection for an hour; dask-gateway makes the application without this argument
        app._handler_args = {"keepalive_timeout": IDLE_SECONDS}
        await super().setup(app)
        app.router.add_delete("/api/v1/launches/{user}/{server:.*}", self._end_launch)
        app.router.add_get("/api/v1/launches/", self._list_launches)
        self._authenticator = app["authenticator"]
        self._reaping = asyncio.create_task(Reaper(self, self._authenticator).loop())

    async def cleanup(self) -> None:
        """Stop the reaper and the backend."""
        if hasattr(self, "_reaping"):
            self._reaping.cancel()
        await super().cleanup()

    async def runtime(self, launch: Launch, ends_at: float) -> Runtime:
        """Return how to start the schedulers and workers of `launch`.

        The launch ends at `ends_at` at the latest, in seconds since the epoch. Raises PublicException.
        """
        raise NotImplementedError

    async def all_clusters(self) -> list[dict[str, Any]]:
        """Return each cluster's name, owner, status, workers and max_workers, for the command `status`."""
        raise NotImplementedError

    def ends_at(self, cluster: Any) -> float:
        """Return when `cluster` must end at the latest, in seconds since the epoch."""
        return math.inf

    async def _end_launch(self, request: web.Request) -> web.Response:
        """Stop all clusters of a launch; only the hub may."""

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
        """List all clusters for the command `status`."""

        async def respond(request: web.Request) -> web.Response:
            if not request["user"].may_look:
                raise web.HTTPForbidden(reason="Only the operator may list all clusters.")
            return web.json_response(await self.all_clusters())

        response: web.Response = await self._authenticator.authenticate_and_handle(request, respond)
        return response

    async def start_cluster(self, user: LaunchUser, cluster_options: dict[str, Any]) -> str:
        """Start one more cluster for the launch, or share the only one that it may have.

        Raises PublicException with the limit if it is reached.
        """
        if user.launch is None:
            raise PublicException(_LAUNCHES_ONLY)
        assert user.launch.grant.dask is not None
        allowed = user.launch.grant.dask.clusters
        # another request of the same launch must not run between counting and creating
        async with self._starting[user.name]:
            active = await self.list_clusters(username=user.name)
            if len(active) < allowed:
                name = await self.make_cluster(user, cluster_options)
            elif allowed == 1 and (shared := await self._share(user, active[0], cluster_options)):
                name = shared
            else:
                raise too_many(allowed, (cluster.name for cluster in active))
            if not user.is_starting:
                self.holders.add(name, (cluster.name for cluster in await self.list_clusters()))
            return name

    async def _share(self, user: LaunchUser, cluster: Any, cluster_options: dict[str, Any]) -> str:
        """Return the launch's only cluster, or one that replaces it; empty if it works or does not suit.

        It suits if it has the same options. Another is replaced if nobody holds it or is connected.
        """
        options, _ = await self.process_cluster_options(user, cluster_options)
        is_running = cluster.status == ClusterStatus.RUNNING
        usage = await usage_of(self.session, cluster) if is_running else Usage(has_work=False, clients=0)
        if usage is None or usage.has_work:
            return ""
        if options == cluster.options:
            return str(cluster.name)
        if usage.clients or self.holders.has(cluster.name):
            return ""
        await self.stop_cluster(cluster.name)
        return await self.make_cluster(user, cluster_options)

    async def make_cluster(self, user: LaunchUser, cluster_options: dict[str, Any]) -> str:
        """Make an allowed cluster, and return its name once `list_clusters` returns it. Raises PublicException."""
        name: str = await super().start_cluster(user, cluster_options)
        return name

    async def _options(self, user: LaunchUser) -> Options:
        if user.launch is None or user.launch.grant.dask is None:
            raise PublicException(_LAUNCHES_ONLY)
        runtime = await self.runtime(user.launch, user.ends_at)
        return options_for(user.launch.grant.dask, runtime, set(self.cluster_config_class.class_trait_names()))

    async def forward_message_to_scheduler(self, cluster: Any, msg: dict[str, Any]) -> None:
        """Forward `msg` to a scheduler, and stop a scheduler that does not accept it. Raises PublicException.

        The stock method waits five minutes for each answer and follows redirects. A scheduler runs launched code, so
        it could redirect the gateway to any address that the gateway can reach.
        """
        if cluster.status == ClusterStatus.RUNNING:
            for attempt in range(self.scheduler_api_retries):
                if await self._forward(cluster, msg):
                    return
                await asyncio.sleep(_SCHEDULER_RETRY_SECONDS * 2**attempt)
            self.log.warning("Stopping %s: its scheduler accepts no messages", cluster.name)
            await self.stop_cluster(cluster.name, failed=True)
        raise PublicException(f"cluster {cluster.name} is not running")

    async def _forward(self, cluster: Any, msg: dict[str, Any]) -> bool:
        url, headers = f"{cluster.api_address}/api/comm", {"Authorization": f"token {cluster.token}"}
        options = {"headers": headers, "timeout": _SCHEDULER_TIMEOUT, "allow_redirects": False}
        try:
            async with self.session.post(url, json=msg, **options) as response:
                return bool(response.status == 200)
        except (aiohttp.ClientError, TimeoutError) as error:
            self.log.warning("Could not reach the scheduler of %s: %s", cluster.name, type(error).__name__)
            return False
