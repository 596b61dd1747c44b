"""The events of a launch for the waiting user, and the only module that knows BinderHub's wire format for them.

BinderHub's clients (its page, thebe, @jupyterhub/binderhub-client) read `phase message imageName url token` from
server-sent events; ours have additional keys, never fewer. Format: https://binderhub.readthedocs.io/en/latest/api.html
"""

from __future__ import annotations

import json
from dataclasses import fields
from enum import StrEnum
from functools import lru_cache
from operator import attrgetter
from typing import Any, Final

from pydantic.dataclasses import dataclass

from .errors import UserError
from .model import Environment, Grant, Launch, to_wire


class Phase(StrEnum):
    """The phases that BinderHub's clients know, in the order of a launch."""

    WAITING = "waiting"
    """Resolving, being admitted, or waiting in the queue."""
    FETCHING = "fetching"
    BUILDING = "building"
    BUILT = "built"
    LAUNCHING = "launching"
    READY = "ready"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened in a launch."""

    phase: Phase
    message: str
    """A sentence or a line of the build's log; ends with a newline if a client appends it to a log."""
    hint: str = ""
    """With FAILED: what to do about it."""
    reason: str = ""
    """With FAILED: the error's stable reason code, or the id of its log entry."""
    environment: Environment | None = None
    """With BUILT, and with READY if only the build was wanted."""
    grant: Grant | None = None
    """With WAITING, once admitted: the launch's grant."""
    launch: Launch | None = None
    """With READY: the launch; None if only the build was wanted."""
    url: str = ""
    """With READY: the server's address; ends in a slash."""
    token: str = ""
    """With READY: the server's own token; a secret, never logged."""
    position: int = 0
    """With WAITING: the position in the queue, from 1."""
    login: bool = False
    """With WAITING: whether somebody who signs in might get more than this launch will."""

    def __repr__(self) -> str:
        return f"Event({self.phase}, {self.message!r})"

    @property
    def ends(self) -> bool:
        """Whether this is the last event."""
        return self.phase in (Phase.READY, Phase.FAILED)


_extras: Final = attrgetter(*(field.name for field in fields(Event) if field.name not in ("phase", "message")))


def failed(error: UserError) -> Event:
    """Return the event that reports `error` to the user."""
    return Event(Phase.FAILED, error.message + "\n", hint=error.hint, reason=error.reason)


def _grant_wire(grant: Grant) -> dict[str, Any]:
    wire = to_wire(grant)
    if grant.storage is not None:
        wire["storage"]["read"] = [entry.name for entry in grant.storage.read]
    return wire


def wire(event: Event) -> dict[str, Any]:
    """Return `event` in BinderHub's wire format: always `phase` and `message`, other keys only with a value."""
    body: dict[str, Any] = {"phase": event.phase.value, "message": event.message}
    optional = {
        "imageName": event.environment.id if event.environment is not None else "",
        "url": event.url,
        "token": event.token,
        "hint": event.hint,
        "reason": event.reason,
        "position": event.position,
        "login": event.login,
    }
    body.update({key: value for key, value in optional.items() if value})
    if event.grant is not None:
        body["grant"] = _grant_wire(event.grant)
    if event.launch is not None:
        launch = event.launch
        body.update(
            launch_id=launch.id,
            image=launch.environment.id,
            repo_url=launch.repo.ref.url,
            binder_ref_url=launch.link.ref_url,
            binder_launch_host=launch.link.host,
            binder_request=launch.link.request,
            binder_persistent_request=launch.link.persistent_request,
            commit=launch.repo.revision,
        )
    return body


def sse(event: Event, id_: str = "") -> str:
    """Return `event` as one server-sent event, with `id_` for a client that resumes after it."""
    data = json.dumps(wire(event)) if any(_extras(event)) else _plain_data(event.phase, event.message)
    return f"data: {data}\nid: {id_}\n\n" if id_ else f"data: {data}\n\n"


@lru_cache(maxsize=128)  # all followers of a build get a line at about the same time
def _plain_data(phase: Phase, message: str) -> str:
    return json.dumps({"phase": phase.value, "message": message})


KEEPALIVE = ":keepalive\n\n"
"""A comment that keeps proxies from closing an idle stream."""
