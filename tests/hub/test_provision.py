"""Provisioning for any kind of cluster: required or not, on request or not, and released."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace

import aiohttp
import pytest

from pangeo_binder import metrics, peers
from pangeo_binder.errors import DaskUnavailable, StorageUnavailable
from pangeo_binder.hub import connections
from pangeo_binder.hub.dask.gateway import GatewayClusters, GatewayService
from pangeo_binder.hub.provision import Cluster, Clusters, Provisioned, Provisioner, StorageService
from pangeo_binder.model import (
    DaskGrant,
    Grant,
    Launch,
    Repo,
    RepoRef,
    ServerGrant,
    StorageGrant,
    VirtualEnvironment,
)

NOWHERE = "http://127.0.0.1:1"
DASK = DaskGrant(1, 4, 8, 2**34, 2, 2**32, 600)
GRANT = Grant("small", "r1", "Rule 1.", ServerGrant(1, 2**30, 600, 3600), DASK)
REPO = Repo(RepoRef("git", "https://example.org/sea", "main"), "a" * 40)
LAUNCH = Launch("abcdefghijkl", "sea-abcdefghijkl", "", REPO, VirtualEnvironment("sea", "/sea", "/sea/checkout"), GRANT)


class SmallClusters(Clusters):
    """Give a name and a variable to each launch, and record the requests."""

    on_request = True
    without = "No cluster now."
    environment: Mapping[str, str] = {"WHERE": "here"}  # type: ignore[assignment]

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def make(self, launch: Launch, server_token: str) -> Cluster:
        self.asked.append(f"make {server_token}")
        return Cluster("first", {"NAME": "first"})

    async def settle(self, launch: Launch, cluster: str, server_token: str) -> None:
        self.asked.append(f"settle {cluster}")

    async def release(self, launch: Launch) -> None:
        self.asked.append("release")

    async def close(self) -> None:
        self.asked.append("close")


class FailingClusters(SmallClusters):
    """Clusters for which there is no room."""

    async def make(self, launch: Launch, server_token: str) -> Cluster:
        raise DaskUnavailable("There is no room.")

    async def release(self, launch: Launch) -> None:
        raise DaskUnavailable("Nobody answers.")


class OnlyFirstClusters(SmallClusters):
    """Clusters that sessions cannot make later."""

    on_request = False


def granted(**dask: object) -> Launch:
    return replace(LAUNCH, grant=replace(GRANT, dask=replace(DASK, **dask)))


def provisioner(clusters: Clusters) -> Provisioner:
    return Provisioner(StorageService(NOWHERE, "issue-token"), clusters)


@pytest.fixture
async def gateway() -> AsyncIterator[GatewayClusters]:
    """A gateway that does not answer."""
    clusters = GatewayClusters(GatewayService(NOWHERE, "launches-token", {"DASK_GATEWAY__ADDRESS": NOWHERE}))
    yield clusters
    await clusters.close()


async def test_a_launch_gets_its_cluster_and_the_variables_that_find_it():
    given = await provisioner(SmallClusters()).provision(LAUNCH, "token")
    assert (given.cluster, dict(given.environment), given.notes) == ("first", {"WHERE": "here", "NAME": "first"}, ())


async def test_a_launch_without_dask_gets_no_variables_of_it():
    clusters = SmallClusters()
    launch = replace(LAUNCH, grant=replace(GRANT, dask=None))
    assert await provisioner(clusters).provision(launch, "token") == Provisioned()
    await provisioner(clusters).release(launch)
    assert clusters.asked == []


@pytest.mark.parametrize(("kind", "cluster"), [(SmallClusters, ""), (OnlyFirstClusters, "first")])
async def test_a_cluster_that_can_only_be_the_first_is_made_at_once(kind, cluster):
    given = await provisioner(kind()).provision(granted(precreate=False), "token")
    assert (given.cluster, given.environment["WHERE"]) == (cluster, "here")


async def test_a_cluster_that_is_not_required_becomes_a_note():
    given = await provisioner(FailingClusters()).provision(LAUNCH, "token")
    assert (given.cluster, dict(given.environment), given.notes) == ("", {"WHERE": "here"}, ("No cluster now.",))


async def test_a_cluster_that_is_required_ends_the_launch():
    with pytest.raises(DaskUnavailable, match="There is no room"):
        await provisioner(FailingClusters()).provision(granted(required=True), "token")


@pytest.mark.parametrize(("kind", "outcome"), [(SmallClusters, "released"), (FailingClusters, "left_to_the_reaper")])
async def test_releases_of_clusters_are_counted(kind, outcome):
    before = metrics.CULLED.labels("clusters", outcome)._value.get()
    await provisioner(kind()).release(LAUNCH)
    assert metrics.CULLED.labels("clusters", outcome)._value.get() == before + 1


async def test_an_unreachable_storage_service_ends_the_launch_but_not_the_release():
    launch = replace(LAUNCH, grant=replace(GRANT, dask=None, storage=StorageGrant(2**30, 3600)))
    client = provisioner(SmallClusters())
    with pytest.raises(StorageUnavailable):
        await client.provision(launch, "token")
    await client.release(launch)
    await client.close()


async def test_no_cluster_is_made_before_the_launch_has_its_storage():
    clusters, launch = SmallClusters(), replace(LAUNCH, grant=replace(GRANT, storage=StorageGrant(2**30, 3600)))
    client = provisioner(clusters)
    with pytest.raises(StorageUnavailable):
        await client.provision(launch, "token")
    assert clusters.asked == []
    await client.close()


async def test_a_launch_continues_without_a_gateway_that_is_away(gateway):
    given = await provisioner(gateway).provision(LAUNCH, "token")
    assert given.notes == (GatewayClusters.without,) and given.environment["DASK_GATEWAY__ADDRESS"] == NOWHERE


async def test_services_that_hang_hold_up_few_launches(monkeypatch: pytest.MonkeyPatch) -> None:
    """After five calls without an answer, launches end or continue at once."""
    asked = 0

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        await reader.read()
        writer.close()

    monkeypatch.setattr(connections, "_SERVICE_TIMEOUT", aiohttp.ClientTimeout(total=0.1))
    monkeypatch.setattr(peers, "_QUICK_SECONDS", 0.05)
    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    clusters = GatewayClusters(GatewayService(url, "launches-token", {}))
    client = Provisioner(StorageService(url, "issue-token"), clusters)
    stored = replace(LAUNCH, grant=replace(GRANT, dask=None, storage=StorageGrant(2**30, 3600)))
    for _ in range(8):
        with pytest.raises(StorageUnavailable, match="did not provide scratch storage"):
            await client.provision(stored, "token")
    assert asked == 5
    for _ in range(8):
        assert (await client.provision(LAUNCH, "token")).notes == (GatewayClusters.without,)
    assert asked == 10
    await client.close()
    server.close()
    await server.wait_closed()
