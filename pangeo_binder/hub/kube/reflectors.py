"""KubeSpawner's reflectors of pods and events, changed to list all objects seldom. Runs in the hub.

KubeSpawner watches for ten seconds and then lists everything again. With thousands of launches the hub reads a hundred
megabytes every ten seconds (https://github.com/jupyterhub/kubespawner/issues/753). Here the next watch continues where
the last one ended, as the Kubernetes API intends.
"""

from __future__ import annotations

import time
from typing import Any

from kubespawner.reflector import ResourceReflector
from kubespawner.spawner import EventReflector, PodReflector

LIST_SECONDS = 600.0
"""How old a list may be: an event that a watch should ever have missed is noticed after this time."""
_ANY = "0"
"""KubeSpawner's version at its start and after a failed watch, also one whose version has expired."""


class _Remembered(dict[str, Any]):
    """The objects, and how many deletions were reported since the last other event.

    KubeSpawner continues from an event that is not a deletion, so each watch reports the later deletions again.
    """

    deletions = 0

    def pop(self, *args: Any) -> Any:
        """Count a deletion, also of an object that is not present any more."""
        self.deletions += 1
        return super().pop(*args)

    def __setitem__(self, key: str, value: Any) -> None:
        """Start counting again after another event."""
        self.deletions = 0
        super().__setitem__(key, value)


class _Seldom(ResourceReflector):
    resources: Any
    _listed = -LIST_SECONDS

    async def _list_and_update(self, resource_version: str | None = None) -> str:
        """Return the version from which to watch; list only if it is unknown or old, or listing is cheaper."""
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
"""Our reflectors, by KubeSpawner's that they replace."""
