"""KubeSpawner's memory of pods and events, made to ask for the whole of it seldom: its size is that of all launches.

KubeSpawner watches for ten seconds and then lists everything anew, which with thousands of launches is a hundred
megabytes for the hub to read every ten seconds (https://github.com/jupyterhub/kubespawner/issues/753). Here the next
watch goes on where the last one ended, as Kubernetes means it. Runs in the hub.
"""

from __future__ import annotations

import time

from kubespawner.reflector import ResourceReflector
from kubespawner.spawner import EventReflector, PodReflector

LIST_SECONDS = 600.0
"""How old a list may be: should a watch ever have kept something to itself, it is known after this time."""
_ANY = "0"
"""What KubeSpawner gives at its start and after a watch that failed, also one that was to go on from too long ago."""


class _Seldom(ResourceReflector):
    _listed = -LIST_SECONDS

    async def _list_and_update(self, resource_version: str | None = None) -> str:
        """Return where the next watch goes on from; list only where that is not known, or the list is too old."""
        if resource_version not in (None, _ANY) and time.monotonic() < self._listed + LIST_SECONDS:
            return str(resource_version)
        version: str = await super()._list_and_update(resource_version)
        self._listed = time.monotonic()
        return version


class SeldomPods(_Seldom, PodReflector):
    """The pods of all servers."""


class SeldomEvents(_Seldom, EventReflector):
    """The events on pods."""


SELDOM: dict[type[ResourceReflector], type[ResourceReflector]] = {
    PodReflector: SeldomPods,
    EventReflector: SeldomEvents,
}
"""What takes the place of which reflector of KubeSpawner's."""
