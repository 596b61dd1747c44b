"""The part of JupyterHub's API at which binders reserve seats, renew what they hold, and release it.

`POST` reserves (201, or 409 with the limit that is full, or 503 while the hub waits for reports), `PUT` renews what one
part of a binder's report holds, `DELETE` releases one. Only the binder's role has the scope. Runs in the hub.
"""

from __future__ import annotations

import json
from typing import Any, TypeVar

from jupyterhub.scopes import define_custom_scopes, needs_scope
from tornado.web import HTTPError

from ..model import Launch, from_wire, to_wire
from ..names import LAUNCH_ID_LENGTH
from ..policy.counters import PART_BYTES, Renewal, Reservation, takes
from .admissions import GRACE_SECONDS, AdmissionTable, NotReady
from .roles import ADMISSION_SCOPE, CUSTOM_SCOPES
from .tokens import ServiceHandler

T = TypeVar("T")

# JupyterHub defines the scopes of its configuration later than `needs_scope` looks for them
define_custom_scopes(CUSTOM_SCOPES)

_PATH = "/api/pangeo-binder/admissions"


def read_body(kind: type[T], body: bytes) -> T:
    """Return the noun in the body of a request. Raises HTTPError."""
    if len(body) > PART_BYTES:
        raise HTTPError(413, f"The body has more than {PART_BYTES >> 10} KiB; send a report in several parts.")
    try:
        return from_wire(kind, json.loads(body))
    except (ValueError, RecursionError):
        raise HTTPError(400, f"The body is not a {kind.__name__.lower()}.") from None


class _TableHandler(ServiceHandler):
    """Handler of the table that the spawners also have."""

    def initialize(self, table: AdmissionTable) -> None:
        self._table = table


class AdmissionHandler(_TableHandler):
    """Handler that releases one reservation."""

    @needs_scope(ADMISSION_SCOPE)
    def delete(self, launch_id: str) -> None:
        self._table.release(launch_id)
        self.set_status(204)
        self.finish()


class AdmissionsHandler(_TableHandler):
    """Handler that makes and renews reservations."""

    @needs_scope(ADMISSION_SCOPE)
    def post(self) -> None:
        wanted = read_body(Reservation, self.request.body)
        try:
            full = self._table.reserve(wanted, self._running())
        except NotReady:
            self.set_header("Retry-After", str(round(GRACE_SECONDS)))
            raise HTTPError(503, "The hub takes no reservations yet: it waits for the binders' reports.") from None
        self.set_status(201 if full is None else 409)
        self.finish(json.dumps({} if full is None else to_wire(full)))

    @needs_scope(ADMISSION_SCOPE)
    def put(self) -> None:
        lost = self._table.renew(read_body(Renewal, self.request.body), self._running())
        servers: dict[str, int] = {}
        for launch in self._launches():
            servers[launch.grant.tier] = servers.get(launch.grant.tier, 0) + 1
        self.finish(json.dumps({"lost": lost, "servers": servers}))

    def _running(self) -> dict[str, dict[str, float]]:
        return {launch.id: takes(launch.grant, launch.network, launch.person) for launch in self._launches()}

    def _launches(self) -> list[Launch]:
        """Return the launches of all servers that start, run or stop: the hub has every such spawner in memory."""
        spawners = (spawner for user in self.users.values() for spawner in user.spawners.values())
        return [launch for spawner in spawners if (launch := getattr(spawner, "launch", None)) is not None]


def handlers(table: AdmissionTable) -> list[tuple[Any, ...]]:
    """Return the handlers as `JupyterHub.extra_handlers` takes them.

    JupyterHub advises to use a service instead, which could not see the hub's memory.
    """
    one = rf"{_PATH}/([a-z0-9]{{{LAUNCH_ID_LENGTH}}})"
    return [(_PATH, AdmissionsHandler, {"table": table}), (one, AdmissionHandler, {"table": table})]
