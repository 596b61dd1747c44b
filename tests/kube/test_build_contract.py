"""KubeBuilder passes the contract of builders on a real API server; the test does what a build pod does."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from pangeo_binder.builders.base import BuildEvent
from pangeo_binder.builders.image_labels import labels_of
from pangeo_binder.builders.kube.builder import KubeBuilder
from pangeo_binder.errors import BuildFailed, refusal_text
from pangeo_binder.model import Repo
from tests.contracts.builder import CORES, BuilderBench, BuilderContract
from tests.kube.builds import REPO, Stand, images, stand

__all__ = ["images", "stand"]


class KubeBench(BuilderBench):
    """Builders with the binder's own rights, and pods that end when the test says so."""

    good, failing, endless = (replace(REPO, revision=digit * 40) for digit in "abc")
    failure = "Building failed at the step `RUN false`."
    logs = False  # there is no kubelet

    def __init__(self, stand: Stand, checkout: Path) -> None:
        self.stand, self.checkout = stand, checkout
        (checkout / "binder").mkdir(parents=True)
        (checkout / "binder" / "pangeo.yaml").write_text(f"server: {{cpu: {CORES}}}\n")

    def builder(self) -> KubeBuilder:
        return self.stand.builder()

    def is_running(self, event: BuildEvent) -> bool:
        return True

    async def proceed(self, repo: Repo, events: list[BuildEvent]) -> None:
        async with asyncio.timeout(60):
            while not events:  # noqa: ASYNC110 - the follower has to see the pod before it ends
                await asyncio.sleep(0.2)
        await asyncio.to_thread(self._end, repo, self.builder().environment_id(repo))

    def _end(self, repo: Repo, id_: str) -> None:
        """Push the image and say what a kubelet says of a pod that has ended."""
        if repo == self.good:
            self.stand.registry.push(self.stand.settings.registry.name, id_, **labels_of(self.checkout))
            self.stand.say(phase="Succeeded", containerStatuses=[_ended("push", 0)])
        else:
            said = refusal_text(BuildFailed(self.failure, "The log says why."))
            self.stand.say(phase="Failed", initContainerStatuses=[_ended("build", 1, said)])

    def left(self) -> list[str]:
        return []  # a Job belongs to no builder: the next request follows or replaces it


def _ended(name: str, code: int, message: str = "") -> dict[str, object]:
    reason = "Error" if code else "Completed"
    state = {"terminated": {"exitCode": code, "reason": reason, "message": message, "startedAt": None}}
    return {"name": name, "image": "i", "imageID": "i", "ready": False, "restartCount": 0, "state": state}


class TestKubeBuilder(BuilderContract):
    """Images built by Jobs."""

    @pytest.fixture
    def bench(self, stand: Stand, tmp_path: Path) -> KubeBench:
        return KubeBench(stand, tmp_path / "checkout")
