"""KubeSpawner's memory of pods and events, made to ask for the whole of it seldom: its size is that of all launches.

KubeSpawner watches for ten seconds and then lists everything anew, which with thousands of launches is a hundred
megabytes for the hub to read every ten seconds (https://github.com/jupyterhub/kubespawner/issues/753). Here the next
watch goes on where the last one ended, as Kubernetes means it. Runs in the hub.
"""

from __future__ import annotations

import time
from typing import Any

from kubespawner.reflector import ResourceReflector
from kubespawner.spawner import EventReflector, PodReflector

LIST_SECONDS = 600.0
"""How old a list may be: should a watch ever have kept something to itself, it is known after this time."""
_ANY = "0"
"""What KubeSpawner gives at its start and after a watch that failed, also one that was to go on from too long ago."""


class _Remembered(dict[str, Any]):
    """What is there, and how many deletions were told since the last piece of other news.

    KubeSpawner goes on from news that is no deletion, so each watch tells the deletions after it again.
    """

    deletions = 0

    def pop(self, *args: Any) -> Any:
        """Take note of a deletion, also of what is not there any more."""
        self.deletions += 1
        return super().pop(*args)

    def __setitem__(self, key: str, value: Any) -> None:
        """Take note of other news."""
        self.deletions = 0
        super().__setitem__(key, value)


class _Seldom(ResourceReflector):
    resources: Any
    _listed = -LIST_SECONDS

    async def _list_and_update(self, resource_version: str | None = None) -> str:
        """Return where the next watch goes on from; list only where that is not known, too old, or the cheaper way."""
        known = resource_version not in (None, _ANY) and time.monotonic() < self._listed + LIST_SECONDS
        if known and self.resources.deletions <= len(self.resources):
            return str(resource_version)
        version: str = await super()._list_and_update(resource_version)
        self._listed, self.resources = time.monotonic(), _Remembered(self.resources)
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
