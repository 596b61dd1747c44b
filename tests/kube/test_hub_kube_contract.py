"""KubeLaunchSpawner passes the contract of spawners on a real API server; the test does what a kubelet does."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import pytest

from pangeo_binder.model import Launch
from tests.contracts.spawner import SpawnerContract, Spawning
from tests.kube.hubstand import KEY, SERVICES, HubStand, hub_stand, new_launch
from tests.stack.control_plane import ControlPlane


@pytest.fixture(scope="module")
def stand(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubStand]:
    yield from hub_stand(control_plane, tmp_path_factory.mktemp("stand") / "hub")


class KubeSpawning(Spawning):
    """A hub whose servers are pods, each in a namespace of its launch."""

    def __init__(self, stand: HubStand) -> None:
        self.stand, self.api, self.keys = stand, stand.api, [KEY]
        self.binder_token, self.gateway_token = stand.token("binder"), stand.token("dask-gateway")
        self.secrets = (KEY, *map(stand.token, SERVICES))

    def new_launch(self) -> Launch:
        return new_launch()

    def run(self, launch: Launch) -> None:
        self.stand.runs(launch)

    def limits(self, launch: Launch) -> tuple[float, int]:
        (container,) = self.stand.pod(launch)["spec"]["containers"]
        cpu, memory = (container["resources"]["limits"][name] for name in ("cpu", "memory"))
        return float(cpu[:-1]) / 1000 if cpu.endswith("m") else float(cpu), int(memory)

    def variables(self, launch: Launch) -> dict[str, str]:
        (container,) = self.stand.pod(launch)["spec"]["containers"]
        plain = {each["name"]: each.get("value", "") for each in container["env"]}
        held = [each.get("data", {}) for each in self.stand.objects(launch, "secrets")]
        return plain | {name: base64.b64decode(value).decode() for data in held for name, value in data.items()}

    def command(self, launch: Launch) -> list[str]:
        (container,) = self.stand.pod(launch)["spec"]["containers"]
        return [container["image"], *container.get("command", []), *container.get("args", [])]

    def is_gone(self, launch: Launch) -> bool:
        return self.stand.is_gone(launch)


class TestKubeLaunchSpawner(SpawnerContract):
    """Servers as pods."""

    @pytest.fixture
    def spawning(self, stand: HubStand) -> KubeSpawning:
        return KubeSpawning(stand)
