"""Fills a cluster with running launches, made by the product's own code but without a hub."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from pangeo_binder.hub.kube.launch_objects import LaunchObjects
from pangeo_binder.hub.kube.settings import KubeSettings, Neighbours
from pangeo_binder.kube.api import KubeApi, retry_temporary
from pangeo_binder.kube.labels import launch_annotations, launch_labels
from pangeo_binder.model import Launch
from tests.kube.hubstand import SYSTEM, new_launch
from tests.stack.control_plane import ControlPlane

_AT_ONCE = 50
_SETTINGS = KubeSettings(
    SYSTEM, Neighbours({"app": "hub"}, {"app": "proxy"}, {"app": "storage"}), pull_login='{"auths": {}}'
)
_SECRETS = {
    "session": dict.fromkeys(("JUPYTER_TOKEN", "JUPYTERHUB_API_TOKEN", "JPY_API_TOKEN"), "s" * 64),
    "storage": dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"), "s" * 64),
}


class Crowd:
    """Running launches, as many as requested; their pods are copies of one that the hub made."""

    def __init__(self, plane: ControlPlane, pod: dict[str, Any], of: Launch) -> None:
        self._plane, self._pod, self._of = plane, pod, of
        self.launches: list[Launch] = []

    async def grow(self, size: int) -> None:
        """Make launches until there are `size`, all running."""
        new = [new_launch() for _ in range(size - len(self.launches))]
        api = KubeApi(str(self._plane.kubeconfig))
        try:
            objects = LaunchObjects(_SETTINGS, api)
            await _each(new, lambda launch: _make_objects(objects, launch))
            core = await api.core()
            await _each(new, lambda launch: self._start(core, launch))
            self.launches += new
            await self._all_run(core)
        finally:
            await api.close()

    async def _start(self, core: Any, launch: Launch) -> None:
        namespace, pod = _SETTINGS.placement.namespace(launch), _copy(self._pod, self._of, launch)
        await retry_temporary(lambda: core.create_namespaced_pod(namespace, pod))

    async def _all_run(self, core: Any) -> None:
        for _ in range(600):
            listed = await core.list_pod_for_all_namespaces(
                label_selector="component=singleuser-server", field_selector="status.phase!=Running", limit=1
            )
            if not listed.items:
                return
            await asyncio.sleep(0.5)
        raise AssertionError("the crowd does not run")


async def _make_objects(objects: LaunchObjects, launch: Launch) -> None:
    await objects.make(launch)
    for kind, variables in _SECRETS.items():
        await objects.keep(kind, launch, variables)


def _copy(pod: dict[str, Any], of: Launch, launch: Launch) -> dict[str, Any]:
    """Return the pod of `launch`, as the hub made that of `of`."""
    made = copy.deepcopy({"spec": pod["spec"], "metadata": {}})
    made["spec"].pop("nodeName", None)
    labels = {**pod["metadata"]["labels"], **launch_labels(launch)}
    annotations = {**pod["metadata"]["annotations"], **launch_annotations(launch)}
    name = pod["metadata"]["name"].replace(of.id, launch.id)
    made["metadata"] = {"name": name, "labels": labels, "annotations": annotations}
    return made


async def _each(launches: Iterable[Launch], do: Callable[[Launch], Awaitable[None]]) -> None:
    room = asyncio.Semaphore(_AT_ONCE)

    async def one(launch: Launch) -> None:
        async with room:
            await do(launch)

    await asyncio.gather(*map(one, launches))
