"""Gives a launch the storage and the Dask cluster it was granted, and takes them back when it ends.

`Provisioner` tells the story for every kind of cluster; a driver of `Clusters` (`gateway_clusters`,
`operator_clusters`) makes, settles and releases them. Runs in the hub. Errors of a service never fail a launch whose
tier does not require it: they become a note for the person. What cannot be given back now is found later by the
services' own reapers.
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
from ..errors import DaskUnavailable, StorageUnavailable, UserError
from ..model import Launch, to_wire
from .connections import Connections

log = logging.getLogger(__name__)


def _nothing() -> Mapping[str, str]:
    return MappingProxyType({})


Keep = Callable[[Mapping[str, str]], Awaitable[None]]
"""Puts a launch's storage variables where its workers find them."""


async def _keep_nowhere(storage: Mapping[str, str]) -> None:
    """Leave them to the gateway, which asks the storage service for them."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """A launch's first cluster, made but perhaps not yet running."""

    name: str
    environment: Mapping[str, str] = field(default_factory=_nothing, repr=False)
    """What the session needs to reach it; may hold secrets."""


@dataclass(frozen=True, slots=True)
class Provisioned:
    """What a launch was given: variables for its session, its first cluster, and notes for the person."""

    storage: Mapping[str, str] = field(default_factory=_nothing, repr=False)
    """The variables of its storage, for its session and its workers alike; hold secrets."""
    dask: Mapping[str, str] = field(default_factory=_nothing, repr=False)
    """The variables with which its session finds its clusters; may hold secrets."""
    cluster: str = ""
    notes: tuple[str, ...] = ()

    @property
    def environment(self) -> Mapping[str, str]:
        """All variables of the session."""
        return MappingProxyType({**self.storage, **self.dask})


@dataclass(frozen=True, slots=True)
class StorageService:
    """Where the storage service is and what the hub says to be let in."""

    url: str
    """Of the credentials API."""
    token: str = field(repr=False)


class Clusters(ABC):
    """One way of making Dask clusters for launches; one for the life of the hub."""

    on_request: ClassVar[bool]
    """Whether a session can ask for clusters itself, later; else the first one is its only one."""
    without: ClassVar[str]
    """What a person is told whose launch goes on without its first cluster."""

    @property
    @abstractmethod
    def environment(self) -> Mapping[str, str]:
        """What every session that may have Dask is told, whether or not it has a cluster."""

    @abstractmethod
    async def make(self, launch: Launch, server_token: str) -> Cluster:
        """Make the first cluster of `launch`, which has a Dask grant, and do not wait until it runs.

        `server_token` is the server's own hub token. Raises DaskUnavailable.
        """

    @abstractmethod
    async def settle(self, launch: Launch, cluster: str, server_token: str) -> None:
        """Return once `cluster` runs and was asked for the tier's first workers.

        Raises DaskUnavailable where it fails or does not run in time.
        """

    @abstractmethod
    async def release(self, launch: Launch) -> None:
        """Have all clusters of `launch` ended. Raises DaskUnavailable where that was not possible."""

    @abstractmethod
    async def close(self) -> None:
        """Close connections; the next use opens them anew."""


class Provisioner:
    """What spawners ask for all that a launch was granted beside its server; one for the life of the hub."""

    def __init__(self, storage: StorageService, clusters: Clusters) -> None:
        self._storage_service = storage
        self._clusters = clusters
        self._connections = Connections()

    def __deepcopy__(self, memo: dict[int, Any]) -> Provisioner:
        """Stay one object though traitlets copies configuration values: connections are shared."""
        return self

    async def provision(self, launch: Launch, server_token: str, keep: Keep = _keep_nowhere) -> Provisioned:
        """Return what `launch` gets, cluster and storage made side by side.

        `server_token` is the server's own hub token: the cluster then belongs to the launch. `keep` is told the
        variables of its storage as soon as there are any. Raises DaskUnavailable or StorageUnavailable where the tier
        requires what cannot be had.
        """
        storage, dask = await asyncio.gather(self._storage(launch, keep), self._dask(launch, server_token))
        return Provisioned(storage.storage, dask.dask, dask.cluster, storage.notes + dask.notes)

    async def settle(self, launch: Launch, cluster: str, server_token: str) -> None:
        """Return once `cluster` runs and was asked for the tier's first workers. Raises DaskUnavailable."""
        await self._clusters.settle(launch, cluster, server_token)

    async def release(self, launch: Launch) -> None:
        """Give back the launch's clusters and credentials; what fails here is left to the services' reapers."""
        releases = []
        if launch.grant.dask:
            releases.append(self._counted("clusters", self._clusters.release(launch)))
        if launch.grant.storage:
            releases.append(self._counted("credentials", self._revoke(launch)))
        await asyncio.gather(*releases)

    async def close(self) -> None:
        """Close connections; the next use opens them anew."""
        await asyncio.gather(self._connections.close(), self._clusters.close())

    async def _storage(self, launch: Launch, keep: Keep) -> Provisioned:
        if launch.grant.storage is None:
            return Provisioned()
        body = {
            "grant": to_wire(launch.grant.storage),
            "owner": f"{launch.user}/{launch.server}",
            "expires_at": time.time() + launch.grant.server.max_age_seconds,
        }
        url, headers = self._vended(launch)
        try:
            async with self._connections.http.put(url, json=body, headers=headers, raise_for_status=True) as response:
                answer = await response.json()
        except (aiohttp.ClientError, TimeoutError) as error:
            log.error("No storage for launch %s: %s", launch.id, type(error).__name__)
            raise StorageUnavailable(
                "The storage service did not give this launch its scratch storage.", "Try again in a minute."
            ) from None
        await keep(answer["environment"])
        return Provisioned(storage=MappingProxyType(answer["environment"]))

    async def _dask(self, launch: Launch, server_token: str) -> Provisioned:
        grant = launch.grant.dask
        if grant is None:
            return Provisioned()
        told = self._clusters.environment
        if self._clusters.on_request and not grant.precreate:
            return Provisioned(dask=told)
        try:
            cluster = await self._clusters.make(launch, server_token)
        except DaskUnavailable:
            if grant.required:
                raise
            return Provisioned(dask=told, notes=(self._clusters.without,))
        return Provisioned(dask=MappingProxyType({**told, **cluster.environment}), cluster=cluster.name)

    def _vended(self, launch: Launch) -> tuple[str, dict[str, str]]:
        service = self._storage_service
        return f"{service.url}/launches/{launch.id}", {"Authorization": f"Bearer {service.token}"}

    async def _revoke(self, launch: Launch) -> None:
        url, headers = self._vended(launch)
        try:
            async with self._connections.http.delete(url, headers=headers, raise_for_status=True):
                pass
        except (aiohttp.ClientError, TimeoutError) as error:
            log.warning("Could not revoke the credentials of launch %s: %s", launch.id, type(error).__name__)
            raise StorageUnavailable("The storage service did not revoke this launch's credentials.") from None

    @staticmethod
    async def _counted(component: str, release: Any) -> None:
        try:
            await release
        except UserError:
            metrics.CULLED.labels(component, "left_to_the_reaper").inc()
        else:
            metrics.CULLED.labels(component, "released").inc()
