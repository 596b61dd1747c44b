"""The table of reservations: which launches hold a seat and have no server yet.

With it, no two binders give away one seat: JupyterHub is one process whose memory holds every server, so a decision
here is atomic and sees everything. A reservation
expires unless its binder renews it: the seats of a binder that died come back by themselves. Nothing is stored; after a
restart of the hub the binders report what they hold. Runs in the hub; its HTTP form is `admission_api`'s.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..policy.counters import MAX_RESERVATIONS, Full, Renewal, Reservation, add, find_full

EXPIRY_SECONDS = 30.0
"""How long a reservation lasts that is not renewed; binders renew three times in this time."""
GRACE_SECONDS = 20.0
"""How long a hub that has just started waits for reports; longer than a binder's interval and one call that fails."""

Running = Mapping[str, Mapping[str, float]]
"""What each launch with a server takes, by launch id."""


class NotReady(Exception):
    """The hub has just started, and not all binders have reported yet; or it holds as many reservations as it may."""


@dataclass(slots=True)
class _Held:
    takes: Mapping[str, float]
    expires: float


class AdmissionTable:
    """All reservations; one for the life of the hub process.

    `binders` is how many binder processes have to report after a start of the hub before it gives new seats. If that is
    not known, the hub waits for the whole grace.
    """

    def __init__(self, binders: int | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._expected, self._clock = binders, clock
        self._held: dict[str, _Held] = {}
        self._binders: set[str] = set()
        self._asked_first: float | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> AdmissionTable:
        """Return itself: traitlets copies what a configuration holds, and handlers and spawners share one table."""
        return self

    def reserve(self, wanted: Reservation, running: Running) -> Full | None:
        """Reserve what a launch takes until it expires; return the limit that is full instead, if one is.

        `running` counts as well, each launch once. Raises NotReady.
        """
        self._prepare()
        if not self._has_heard_all() or len(self._held) >= MAX_RESERVATIONS:
            raise NotReady
        return self._take(wanted, self._used(wanted.launch, running))

    def renew(self, renewal: Renewal, running: Running) -> tuple[str, ...]:
        """Keep the reservations in one part of a report for another while; return the launches that have lost theirs.

        A reservation that is not known (the hub was restarted, or it expired) is made again if it fits into its limits.
        """
        self._prepare()
        if renewal.last and not self._has_heard_all():
            self._binders.add(renewal.binder)
        lost, used = [], None
        for each in renewal.reservations:
            if each.launch in self._held:
                self._held[each.launch].expires = self._clock() + EXPIRY_SECONDS
            elif each.launch not in running:
                used = self._used("", running) if used is None else used  # slow, and most parts do not need it
                if len(self._held) >= MAX_RESERVATIONS or self._take(each, used) is not None:
                    lost.append(each.launch)
                else:
                    add(used, [each.takes])
        return tuple(lost)

    def release(self, launch_id: str) -> None:
        """Forget the reservation of a launch, if there is one."""
        self._held.pop(launch_id, None)

    def claim(self, launch_id: str) -> bool:
        """Give the reservation of a launch to its server; return whether there was one.

        The caller marks the server as running in the same step of the event loop, so that it counts exactly once.
        """
        self._prepare()
        return self._held.pop(launch_id, None) is not None

    def _take(self, wanted: Reservation, used: Mapping[str, float]) -> Full | None:
        full = find_full(wanted.limits, wanted.takes, used)
        if full is None:
            self._held[wanted.launch] = _Held(wanted.takes, self._clock() + EXPIRY_SECONDS)
        return full

    def _used(self, launch_id: str, running: Running) -> dict[str, float]:
        """Return what all launches but `launch_id` take; a server counts in place of its launch's reservation."""
        together = {**{id_: held.takes for id_, held in self._held.items()}, **running}
        together.pop(launch_id, None)
        return add({}, together.values())

    def _prepare(self) -> None:
        """Forget what has expired. The grace begins when the hub first answers, long after this table was made."""
        now = self._clock()
        if self._asked_first is None:
            self._asked_first = now
        self._held = {id_: held for id_, held in self._held.items() if held.expires > now}

    def _has_heard_all(self) -> bool:
        assert self._asked_first is not None
        graced = self._clock() - self._asked_first >= GRACE_SECONDS
        return graced or (self._expected is not None and len(self._binders) >= self._expected)
