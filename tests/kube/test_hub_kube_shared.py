"""Launches in one shared namespace, and the reaper in both layouts: each deletes only its launch's own objects."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from pangeo_binder.hub.kube.launch_objects import LaunchObjects
from pangeo_binder.hub.kube.namespace_reaper import NamespaceReaper, OwnNamespaces, SharedNamespace
from pangeo_binder.hub.roles import NAMESPACES
from pangeo_binder.kube.api import KubeApi
from pangeo_binder.liveness import HubIsAlive
from pangeo_binder.model import Launch
from tests.kube.hubstand import HubStand, documented_rules, hub_stand, new_launch
from tests.kube.kubelaunch import some_settings
from tests.stack.control_plane import ControlPlane
from tests.stack.local import until

SHARED = "launch-together"
SOON = 30


@pytest.fixture(scope="module")
def stand(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubStand]:
    """A hub with rights in the shared namespace only."""
    yield from hub_stand(control_plane, tmp_path_factory.mktemp("stand") / "hub", shared=SHARED)


@pytest.fixture
async def api(stand: HubStand) -> AsyncIterator[KubeApi]:
    """The API server with that hub's rights."""
    api = KubeApi(str(stand.kubeconfig))
    yield api
    await api.close()


async def started(stand: HubStand, launch: Launch) -> None:
    starting = asyncio.create_task(stand.launch(launch))
    await asyncio.to_thread(stand.runs, launch)
    await starting


def names(stand: HubStand, launch: Launch) -> set[str]:
    return {each["metadata"]["name"] for each in stand.objects(launch, "pods,secrets,networkpolicies")}


async def test_each_launch_has_its_own_objects_and_deletes_only_these(stand: HubStand) -> None:
    launch, other = new_launch(), new_launch()
    await started(stand, launch)
    await started(stand, other)
    kinds = ("server", "session", "storage", "pull", "launch")
    assert names(stand, launch) == {f"{kind}-{launch.id}" for kind in kinds}
    stand.end(launch)
    await asyncio.to_thread(until, "it is gone", lambda: stand.is_gone(launch), SOON)
    assert names(stand, other) == {f"{kind}-{other.id}" for kind in kinds} and stand.is_there(other)


async def test_the_hub_has_no_right_outside(stand: HubStand) -> None:
    plane = stand.plane
    asked = [("create", "namespaces", "default"), ("list", "pods", "default"), ("get", "secrets", SHARED)]
    for verb, what, where in asked:
        said = plane.kubectl("auth", "can-i", verb, what, "-n", where, config=stand.kubeconfig, check=False)
        assert said.strip().startswith("no"), (verb, what)
    assert "list" not in [
        verb for rule in documented_rules("shared") if "secrets" in rule["resources"] for verb in rule["verbs"]
    ]


async def test_the_hubs_own_reaper_deletes_what_the_hub_forgot(stand: HubStand, api: KubeApi) -> None:
    lost, running = new_launch(), new_launch()
    await started(stand, running)
    objects = LaunchObjects(some_settings(shared=SHARED, pull_login="{}"), api)
    await objects.make(lost)
    await objects.keep("session", lost, {"TOKEN": "secret"})
    assert len(names(stand, lost)) == 3
    await asyncio.to_thread(until, "it is found", lambda: stand.is_gone(lost), SOON)
    assert len(names(stand, running)) == 5 and stand.is_there(running)


async def test_a_launch_that_is_starting_is_left_alone(stand: HubStand, api: KubeApi) -> None:
    launch = new_launch()
    starting = asyncio.create_task(stand.launch(launch))
    await asyncio.to_thread(stand.pod, launch)
    is_alive = HubIsAlive(stand.api, stand.token(NAMESPACES))
    reaper = NamespaceReaper(SharedNamespace(api, SHARED), is_alive)
    for _ in range(3):
        await reaper.reap()
    assert f"server-{launch.id}" in names(stand, launch)
    await asyncio.to_thread(stand.runs, launch)
    await starting


async def test_without_the_hub_nothing_is_removed(stand: HubStand, api: KubeApi) -> None:
    launch = new_launch()
    await LaunchObjects(some_settings(shared=SHARED), api).make(launch)
    reaper = NamespaceReaper(SharedNamespace(api, SHARED), HubIsAlive("http://127.0.0.1:1/hub/api", "t"))
    for _ in range(3):
        await reaper.reap()
    assert names(stand, launch) == {f"launch-{launch.id}"}


async def test_the_reaper_survives_an_unreachable_api_server(control_plane: ControlPlane, tmp_path: Path) -> None:
    away = tmp_path / "kubeconfig"
    away.write_text(control_plane.kubeconfig.read_text().replace(f":{control_plane.port}", ":1"))
    api = KubeApi(str(away))
    reaping = asyncio.create_task(NamespaceReaper(OwnNamespaces(api), HubIsAlive("http://127.0.0.1:1", "")).loop())
    await asyncio.sleep(2)
    assert not reaping.done()
    reaping.cancel()
    await api.close()
