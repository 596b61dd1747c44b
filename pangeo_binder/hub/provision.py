"""Provisions the storage and the Dask cluster that a launch was granted, and releases them when it ends.

`Provisioner` holds the steps for every kind of cluster; a driver of `Clusters` (`dask.gateway`, `dask.operator`)
makes, settles and releases them. Runs in the hub. An error of a service fails a launch only if its tier requires the
service; otherwise it becomes a note for the user. The services' own reapers later remove what could not be released.
"""

from __future__ import annotations

import asyncio
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar

import aiohttp

from .. import metrics
from ..answers import is_no_answer, read_object
from ..errors import DaskUnavailable, StorageUnavailable, UserError
from ..model import Launch, to_wire
from ..peers import Peering, PeerKind, Peers
from .connections import Connections

log = logging.getLogger(__name__)


def _no_variables() -> Mapping[str, str]:
    return MappingProxyType({})


StoreVariables = Callable[[Mapping[str, str]], Awaitable[None]]
"""Stores a launch's storage variables where its workers read them."""


async def _store_nothing(storage: Mapping[str, str]) -> None:
    """Store nothing: the gateway requests the variables from the storage service itself."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """A launch's first cluster, created but perhaps not yet running."""

    name: str
    environment: Mapping[str, str] = field(default_factory=_no_variables, repr=False)
    """What the session needs to reach it; may hold secrets."""


@dataclass(frozen=True, slots=True)
class Provisioned:
    """The result of provisioning: variables for the session, its first cluster, and notes for the user."""

    storage: Mapping[str, str] = field(default_factory=_no_variables, repr=False)
    """Storage variables, for the session and its workers; they hold secrets."""
    dask: Mapping[str, str] = field(default_factory=_no_variables, repr=False)
    """Variables with which the session reaches its clusters; they may hold secrets."""
    cluster: str = ""
    notes: tuple[str, ...] = ()

    @property
    def environment(self) -> Mapping[str, str]:
        """All variables of the session."""
        return MappingProxyType({**self.storage, **self.dask})


@dataclass(frozen=True, slots=True)
class StorageService:
    """The storage service's address and the hub's token for it."""

    url: str
    """The URL of the credentials API."""
    token: str = field(repr=False)


class Clusters(ABC):
    """A driver that makes Dask clusters for launches; one instance for the life of the hub."""

    on_request: ClassVar[bool]
    """Whether a session can request more clusters later; otherwise it has only its first one."""
    without: ClassVar[str]
    """The note for the user when a launch continues without its first cluster."""

    @property
    @abstractmethod
    def environment(self) -> Mapping[str, str]:
        """Variables for every session whose grant includes Dask, with or without a cluster."""

    @abstractmethod
    async def make(self, launch: Launch, server_token: str) -> Cluster:
        """Create the first cluster of `launch`, which has a Dask grant, without waiting until it runs.

        `server_token` is the server's own hub token. Raises DaskUnavailable.
        """

    @abstractmethod
    async def settle(self, launch: Launch, cluster: str, server_token: str) -> None:
        """Wait until `cluster` runs, and request the tier's first workers.

        Raises DaskUnavailable if the cluster fails or does not run in time.
        """

    @abstractmethod
    async def release(self, launch: Launch) -> None:
        """End all clusters of `launch`. Raises DaskUnavailable if that is not possible."""

    @abstractmethod
    async def close(self) -> None:
        """Close connections; the next use opens new ones."""


class Provisioner:
    """Provisions what a launch was granted in addition to its server; one instance for the life of the hub."""

    def __init__(self, storage: StorageService, clusters: Clusters) -> None:
        self._storage_service = storage
        self._clusters = clusters
        self._connections = Connections()
        self._peers = Peers(Peering(PeerKind.STORAGE, is_no_answer, lambda _: _no_storage()))

    def __deepcopy__(self, memo: dict[int, Any]) -> Provisioner:
        """Return the same object, because traitlets copies configuration values and connections are shared."""
        return self

    async def provision(self, launch: Launch, server_token: str, store: StoreVariables = _store_nothing) -> Provisioned:
        """Provision the storage of `launch` and then its cluster, and return them.

        `server_token` is the server's own hub token, so the cluster belongs to the launch. `store` receives the
        storage variables as soon as they are issued. Raises DaskUnavailable or StorageUnavailable if what the tier
        requires is unavailable.
        """
        storage = await self._storage(launch, store)
        # after the storage, because the gateway of the local profile asks there for the workers' variables at once
        dask = await self._dask(launch, server_token)
        return Provisioned(storage.storage, dask.dask, dask.cluster, storage.notes + dask.notes)

    async def settle(self, launch: Launch, cluster: str, server_token: str) -> None:
        """Wait until `cluster` runs, and request the tier's first workers. Raises DaskUnavailable."""
        await self._clusters.settle(launch, cluster, server_token)

    async def release(self, launch: Launch) -> None:
        """Release the launch's clusters and credentials; failures are left to the services' reapers."""
        releases = []
        if launch.grant.dask:
            releases.append(self._count_release("clusters", self._clusters.release(launch)))
        if launch.grant.storage:
            releases.append(self._count_release("credentials", self._revoke(launch)))
        await asyncio.gather(*releases)

    async def close(self) -> None:
        """Close connections; the next use opens new ones."""
        await asyncio.gather(self._connections.close(), self._clusters.close())

    async def _storage(self, launch: Launch, store: StoreVariables) -> Provisioned:
        if launch.grant.storage is None:
            return Provisioned()
        body = {
            "grant": to_wire(launch.grant.storage),
            "owner": f"{launch.user}/{launch.server}",
            "expires_at": time.time() + launch.grant.server.max_age_seconds,
        }
        url, headers = self._credentials_request(launch)

        async def issue() -> dict[str, str]:
            async with self._connections.http.put(url, json=body, headers=headers, raise_for_status=True) as response:
                found: dict[str, str] = (await read_object(response))["environment"]
                return found

        try:
            environment = await self._peers.call(issue, self._storage_service.url, repeat=True)
        except (aiohttp.ClientError, TimeoutError, KeyError) as error:
            log.error("No storage for launch %s: %s", launch.id, type(error).__name__)
            raise _no_storage() from None
        await store(environment)
        return Provisioned(storage=MappingProxyType(environment))

    async def _dask(self, launch: Launch, server_token: str) -> Provisioned:
        grant = launch.grant.dask
        if grant is None:
            return Provisioned()
        variables = self._clusters.environment
        if self._clusters.on_request and not grant.precreate:
            return Provisioned(dask=variables)
        try:
            cluster = await self._clusters.make(launch, server_token)
        except DaskUnavailable:
            if grant.required:
                raise
            return Provisioned(dask=variables, notes=(self._clusters.without,))
        return Provisioned(dask=MappingProxyType({**variables, **cluster.environment}), cluster=cluster.name)

    def _credentials_request(self, launch: Launch) -> tuple[str, dict[str, str]]:
        service = self._storage_service
        return f"{service.url}/launches/{launch.id}", {"Authorization": f"Bearer {service.token}"}

    async def _revoke(self, launch: Launch) -> None:
        url, headers = self._credentials_request(launch)
        try:
            async with self._connections.http.delete(url, headers=headers, raise_for_status=True):
                pass
        except (aiohttp.ClientError, TimeoutError) as error:
            log.warning("Could not revoke the credentials of launch %s: %s", launch.id, type(error).__name__)
            raise StorageUnavailable("The storage service did not revoke this launch's credentials.") from None

    @staticmethod
    async def _count_release(component: str, release: Any) -> None:
        try:
            await release
        except UserError:
            metrics.CULLED.labels(component, "left_to_the_reaper").inc()
        else:
            metrics.CULLED.labels(component, "released").inc()


def _no_storage() -> StorageUnavailable:
    return StorageUnavailable(
        "The storage service did not provide scratch storage for this launch.", "Try again in a minute."
    )
