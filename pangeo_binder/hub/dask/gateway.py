"""Dask clusters by dask-gateway: the hub requests them with the launch's token, and ends them with its own.

Runs in the hub, as a client of the gateway's API. Not for limits, which the gateway reads from the launch's grant.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from urllib.parse import quote

import aiohttp

from ...answers import is_no_answer, read_object
from ...errors import DaskUnavailable
from ...model import Launch
from ...peers import Peering, PeerKind, Peers
from ..connections import Connections
from ..provision import Cluster, Clusters

log = logging.getLogger(__name__)

_SETTLE_SECONDS = 180
"""The gateway's own limit for a scheduler to start (`cluster_start_timeout`); waiting longer is of no use."""


@dataclass(frozen=True, slots=True)
class GatewayService:
    """The address of the gateway, and the hub's credentials for it."""

    url: str
    """Its address, ending before `/api`."""
    token: str = field(repr=False)
    """Of the hub service `launches`, which may end a launch's clusters."""
    environment: Mapping[str, str]
    """What a session needs to find the gateway."""


class GatewayClusters(Clusters):
    """Clusters that dask-gateway makes; sessions may request more of them."""

    on_request = True
    without = "No Dask cluster could be made now; make one later with Gateway().new_cluster()"

    def __init__(self, service: GatewayService) -> None:
        self._service = service
        self._connections = Connections()
        self._peers = Peers(Peering(PeerKind.GATEWAY, is_no_answer, lambda _: _no_cluster()))

    @property
    def environment(self) -> Mapping[str, str]:
        """Variables with which a session finds the gateway."""
        return self._service.environment

    async def make(self, launch: Launch, server_token: str) -> Cluster:
        """Request a cluster with the server's own token, so that it belongs to the launch. Raises DaskUnavailable."""
        url, headers = self._url("clusters", ""), _as(server_token)
        body: dict[str, dict[str, str]] = {"cluster_options": {}}

        async def make() -> str:
            async with self._connections.http.post(url, json=body, headers=headers, raise_for_status=True) as made:
                return str((await read_object(made))["name"])

        try:
            name = await self._peers.call(make, self._service.url)  # not repeated, because it may be made twice
        except (aiohttp.ClientError, TimeoutError, KeyError) as error:
            log.error("No Dask cluster for launch %s: %s", launch.id, type(error).__name__)
            raise _no_cluster() from None
        return Cluster(name, MappingProxyType({"DASK_GATEWAY_CLUSTER": name}))

    async def settle(self, launch: Launch, cluster: str, server_token: str) -> None:
        """Wait until `cluster` runs, then scale it to the tier's first workers. Raises DaskUnavailable."""
        assert launch.grant.dask is not None
        headers = _as(server_token)
        try:
            async with asyncio.timeout(_SETTLE_SECONDS):
                await self._until_running(cluster, headers)
            if launch.grant.dask.start_workers:
                count = {"count": launch.grant.dask.start_workers}
                url = self._url("clusters", cluster, "scale")
                async with self._connections.http.post(url, json=count, headers=headers, raise_for_status=True):
                    pass
        except (aiohttp.ClientError, TimeoutError, KeyError):
            raise DaskUnavailable(
                f"The Dask cluster {cluster} did not start.", "The environment may lack a working dask and distributed."
            ) from None

    async def _until_running(self, cluster: str, headers: dict[str, str]) -> None:
        url = self._url("clusters", cluster)
        while True:
            # `wait` makes the gateway hold the answer until something has changed, 20 s at most
            async with self._connections.http.get(f"{url}?wait", headers=headers, raise_for_status=True) as response:
                status = (await read_object(response))["status"]
            if status == "RUNNING":
                return
            if status != "PENDING":
                raise TimeoutError

    async def release(self, launch: Launch) -> None:
        """Have the gateway end all clusters of the launch. Raises DaskUnavailable."""
        server = f"{quote(launch.user, safe='')}/{quote(launch.server, safe='')}"
        url, headers = self._url("launches", server), _as(self._service.token)
        try:
            async with self._connections.http.delete(url, headers=headers, raise_for_status=True):
                pass
        except (aiohttp.ClientError, TimeoutError) as error:
            log.warning("Cannot end the clusters of launch %s: %s", launch.id, type(error).__name__)
            raise DaskUnavailable("dask-gateway did not end this launch's clusters.") from None

    async def close(self) -> None:
        """Close the connections to the gateway."""
        await self._connections.close()

    def _url(self, *parts: str) -> str:
        return "/".join((f"{self._service.url}/api/v1", *parts))


def _no_cluster() -> DaskUnavailable:
    return DaskUnavailable("dask-gateway did not give this launch its cluster.", "Try again in a minute.")


def _as(token: str) -> dict[str, str]:
    return {"Authorization": f"jupyterhub {token}"}
