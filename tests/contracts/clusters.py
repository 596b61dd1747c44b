"""Conformance tests of the drivers that make Dask clusters: made for one launch, bounded by it, and gone on release.

A test of a driver subclasses `ClustersContract` and defines the fixture `clustered`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from pangeo_binder.errors import DaskUnavailable
from pangeo_binder.hub.provision import Clusters
from pangeo_binder.model import Launch
from tests.stack.local import until

_GONE_SECONDS = 120


@dataclass(frozen=True)
class Clustered:
    """A driver over a running service, and two launches with a Dask grant that have no cluster yet."""

    clusters: Clusters
    away: Clusters
    """The same driver over a service that does not answer."""
    launch: Launch
    token: str
    """The hub token of the server of `launch`."""
    other: Launch
    other_token: str
    existing: Callable[[Launch], list[str]]
    """Return the names of a launch's clusters."""
    secrets: tuple[str, ...]
    """The hub's own secrets for the service."""
    away_address: str


class ClustersContract:
    """The conformance tests of Clusters."""

    async def test_a_launch_gets_its_cluster_until_it_is_released(self, clustered: Clustered) -> None:
        clusters, launch, other = clustered.clusters, clustered.launch, clustered.other
        made = await clusters.make(launch, clustered.token)
        others = await clusters.make(other, clustered.other_token)
        await clusters.settle(launch, made.name, clustered.token)
        await clusters.settle(other, others.name, clustered.other_token)
        assert await self.existing(clustered, launch) == [made.name]
        assert made.environment
        self.assert_no_secrets(clustered, repr(made), *made.environment.values())
        assert "environment" not in repr(made), "it may hold secrets of the launch"
        await clusters.release(launch)
        await asyncio.to_thread(until, "it is gone", lambda: not clustered.existing(launch), _GONE_SECONDS)
        await clusters.release(launch)
        assert await self.existing(clustered, other) == [others.name]
        await clusters.release(other)
        await asyncio.to_thread(until, "it is gone", lambda: not clustered.existing(other), _GONE_SECONDS)

    async def test_a_launch_without_a_cluster_can_be_released(self, clustered: Clustered) -> None:
        await clustered.clusters.release(clustered.launch)
        assert await self.existing(clustered, clustered.launch) == []

    async def test_closing_is_harmless(self, clustered: Clustered) -> None:
        await clustered.clusters.close()
        await clustered.clusters.close()
        await clustered.clusters.release(clustered.launch)

    def test_every_session_is_given_variables_without_secrets(self, clustered: Clustered) -> None:
        assert clustered.clusters.environment
        self.assert_no_secrets(clustered, *clustered.clusters.environment.values())
        assert clustered.clusters.without

    async def test_a_service_that_is_away_is_an_error_without_secrets(self, clustered: Clustered) -> None:
        away, launch, token = clustered.away, clustered.launch, clustered.token
        for asked in (away.make(launch, token), away.settle(launch, "first", token), away.release(launch)):
            with pytest.raises(DaskUnavailable) as refused:
                await asked
            assert refused.value.message
            texts = (str(refused.value), refused.value.message, refused.value.hint)
            self.assert_no_secrets(clustered, *texts)
            assert not [text for text in texts if clustered.away_address in text]

    @staticmethod
    async def existing(clustered: Clustered, launch: Launch) -> list[str]:
        """Return the names of a launch's clusters."""
        return await asyncio.to_thread(clustered.existing, launch)

    @staticmethod
    def assert_no_secrets(clustered: Clustered, *texts: str) -> None:
        secrets = (*clustered.secrets, clustered.token)
        assert not [secret for secret in secrets if secret and any(secret in text for text in texts)]
