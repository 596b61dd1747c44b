"""Asks the storage service and dask-gateway for what a launch was granted, and gives it back when the launch ends.

Runs in the hub, as a client of both. Errors of a service never fail a launch whose tier does not require it: they
become a note for the person. What cannot be given back now is found later by the services' own reapers.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

import aiohttp

from .. import metrics
from ..errors import DaskUnavailable, StorageUnavailable
from ..model import Launch, to_wire

log = logging.getLogger(__name__)

_SERVICE_TIMEOUT = aiohttp.ClientTimeout(total=20)
_SETTLE_SECONDS = 180
"""As long as the gateway gives a scheduler to start (`cluster_start_timeout`); waiting longer finds nothing."""


@dataclass(frozen=True, slots=True)
class Provisioned:
    """What a launch was given: variables for its session, its first cluster, and notes for the person."""

    environment: MappingProxyType[str, str] = field(default_factory=lambda: MappingProxyType({}))
    cluster: str = ""
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Provisioned(cluster={self.cluster!r})"


@dataclass(frozen=True, slots=True)
class Services:
    """Where the services are and what the hub may say to them."""

    gateway_url: str
    """The gateway's address, ending before `/api`."""
    gateway_token: str
    """Of the hub service `launches`, which may end a launch's clusters."""
    gateway_environment: MappingProxyType[str, str]
    """What a session needs to find the gateway."""
    storage_url: str
    storage_token: str

    def __repr__(self) -> str:
        return f"Services({self.gateway_url!r}, {self.storage_url!r})"


class Provisioner:
    """A client of both services; one for the life of the hub."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._session: aiohttp.ClientSession | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> Provisioner:
        """Stay one object though traitlets copies configuration values: the session's connections are shared."""
        return self

    @property
    def _http(self) -> aiohttp.ClientSession:
        if self._session is None or self._session.closed:
            # no limit on connections: a hundred launches at once must not queue behind one slow service
            connector = aiohttp.TCPConnector(limit=0)
            self._session = aiohttp.ClientSession(timeout=_SERVICE_TIMEOUT, connector=connector)
        return self._session

    async def provision(self, launch: Launch, server_token: str) -> Provisioned:
        """Return what `launch` gets, cluster and storage made side by side.

        `server_token` is the server's own hub token: the cluster then belongs to the launch. Raises DaskUnavailable
        or StorageUnavailable where the tier requires what cannot be had.
        """
        storage, dask = await asyncio.gather(self._storage(launch), self._dask(launch, server_token))
        return Provisioned(
            MappingProxyType({**storage.environment, **dask.environment}),
            dask.cluster,
            storage.notes + dask.notes,
        )

    async def _storage(self, launch: Launch) -> Provisioned:
        if launch.grant.storage is None:
            return Provisioned()
        body = {
            "grant": to_wire(launch.grant.storage),
            "owner": f"{launch.user}/{launch.server}",
            "expires_at": time.time() + launch.grant.server.max_age_seconds,
        }
        headers = {"Authorization": f"Bearer {self._services.storage_token}"}
        try:
            url = f"{self._services.storage_url}/launches/{launch.id}"
            async with self._http.put(url, json=body, headers=headers, raise_for_status=True) as response:
                answer = await response.json()
        except (aiohttp.ClientError, TimeoutError) as error:
            log.error("No storage for launch %s: %s", launch.id, type(error).__name__)
            raise StorageUnavailable(
                "The storage service did not give this launch its scratch storage.", "Try again in a minute."
            ) from None
        return Provisioned(MappingProxyType(answer["environment"]))

    async def _dask(self, launch: Launch, server_token: str) -> Provisioned:
        if launch.grant.dask is None:
            return Provisioned()
        environment = dict(self._services.gateway_environment)
        if not launch.grant.dask.precreate:
            return Provisioned(MappingProxyType(environment))
        try:
            cluster = await self._new_cluster(server_token)
        except (aiohttp.ClientError, TimeoutError) as error:
            log.error("No Dask cluster for launch %s: %s", launch.id, type(error).__name__)
            if launch.grant.dask.required:
                raise DaskUnavailable(
                    "dask-gateway did not give this launch its cluster.", "Try again in a minute."
                ) from None
            note = "No Dask cluster could be made now; make one later with Gateway().new_cluster()"
            return Provisioned(MappingProxyType(environment), notes=(note,))
        environment["DASK_GATEWAY_CLUSTER"] = cluster
        return Provisioned(MappingProxyType(environment), cluster)

    def _clusters(self, *parts: str) -> str:
        return "/".join((f"{self._services.gateway_url}/api/v1", *parts))

    async def _new_cluster(self, server_token: str) -> str:
        headers = {"Authorization": f"jupyterhub {server_token}"}
        url = self._clusters("clusters", "")
        async with self._http.post(url, json={"cluster_options": {}}, headers=headers, raise_for_status=True) as made:
            return str((await made.json())["name"])

    async def settle(self, launch: Launch, cluster: str, server_token: str) -> None:
        """Return once `cluster` runs and was asked for the tier's first workers.

        Raises DaskUnavailable where it fails or does not run in time.
        """
        assert launch.grant.dask is not None
        headers = {"Authorization": f"jupyterhub {server_token}"}
        try:
            async with asyncio.timeout(_SETTLE_SECONDS):
                await self._until_running(cluster, headers)
            if launch.grant.dask.start_workers:
                count = {"count": launch.grant.dask.start_workers}
                url = self._clusters("clusters", cluster, "scale")
                async with self._http.post(url, json=count, headers=headers, raise_for_status=True):
                    pass
        except (aiohttp.ClientError, TimeoutError):
            raise DaskUnavailable(
                f"The Dask cluster {cluster} did not start.", "The environment may lack a working dask and distributed."
            ) from None

    async def _until_running(self, cluster: str, headers: dict[str, str]) -> None:
        url = self._clusters("clusters", cluster)
        while True:
            # `wait` makes the gateway hold the answer until something has changed, 20 s at most
            async with self._http.get(f"{url}?wait", headers=headers, raise_for_status=True) as response:
                status = (await response.json())["status"]
            if status == "RUNNING":
                return
            if status != "PENDING":
                raise TimeoutError

    async def release(self, launch: Launch) -> None:
        """Give back the launch's clusters and credentials; what fails here is left to the services' reapers."""
        releases = []
        if launch.grant.dask:
            server = f"{quote(launch.user, safe='')}/{quote(launch.server, safe='')}"
            url = self._clusters("launches", server)
            releases.append(self._delete("clusters", url, f"jupyterhub {self._services.gateway_token}"))
        if launch.grant.storage:
            url = f"{self._services.storage_url}/launches/{launch.id}"
            releases.append(self._delete("credentials", url, f"Bearer {self._services.storage_token}"))
        await asyncio.gather(*releases)

    async def _delete(self, component: str, url: str, authorization: str) -> None:
        outcome = "released"
        try:
            headers = {"Authorization": authorization}
            async with self._http.delete(url, headers=headers, raise_for_status=True):
                pass
        except (aiohttp.ClientError, TimeoutError) as error:
            outcome = "left to the reaper"
            log.warning("Could not release %s (%s): %s", component, type(error).__name__, outcome)
        metrics.CULLED.labels(component, outcome.replace(" ", "_")).inc()
