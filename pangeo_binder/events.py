"""What a launch tells the person waiting, and the one place that knows BinderHub's wire form of it.

BinderHub's clients (its page, thebe, @jupyterhub/binderhub-client) read `phase message imageName url token` from
server-sent events; ours carry more keys, never fewer. Form: https://binderhub.readthedocs.io/en/latest/api.html
"""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Any

from pydantic.dataclasses import dataclass

from .errors import UserError
from .model import Grant, Launch, to_wire


class Phase(StrEnum):
    """The phases BinderHub's clients know, in the order a launch goes through them."""

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
    """A sentence, or a line of the build's log; ends with a newline where a client appends it to a log."""
    hint: str = ""
    """With FAILED: what to do about it."""
    reason: str = ""
    """With FAILED: the stable word of the error, or the id under which it was logged."""
    image_name: str = ""
    """With BUILT: the environment's id."""
    grant: Grant | None = None
    """With WAITING, once admitted: what this launch gets."""
    launch: Launch | None = None
    """With READY: the launch that is."""
    url: str = ""
    """With READY: the server's address, ending in a slash."""
    token: str = ""
    """With READY: the server's own token; a secret, so never logged."""
    position: int = 0
    """With WAITING in the queue: the position, from 1."""

    def __repr__(self) -> str:
        return f"Event({self.phase}, {self.message!r})"

    @property
    def ends(self) -> bool:
        """Whether nothing follows this event."""
        return self.phase in (Phase.READY, Phase.FAILED)


def failed(error: UserError) -> Event:
    """Return the event that tells a person of `error`."""
    return Event(Phase.FAILED, error.message + "\n", hint=error.hint, reason=error.reason)


def _grant_wire(grant: Grant) -> dict[str, Any]:
    wire = to_wire(grant)
    if grant.storage is not None:
        wire["storage"]["read"] = [entry.name for entry in grant.storage.read]
    return wire


def wire(event: Event) -> dict[str, Any]:
    """Return `event` as BinderHub's clients expect it; keys without a value are left out, `phase message` never."""
    body: dict[str, Any] = {"phase": event.phase.value, "message": event.message}
    optional = {
        "imageName": event.image_name,
        "url": event.url,
        "token": event.token,
        "hint": event.hint,
        "reason": event.reason,
        "position": event.position,
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
            binder_ref_url=launch.repo.ref.url,
            commit=launch.repo.revision,
        )
    return body


def sse(event: Event) -> str:
    """Return `event` as one server-sent event."""
    return f"data: {json.dumps(wire(event))}\n\n"


KEEPALIVE = ":keepalive\n\n"
"""A comment that keeps proxies from closing a quiet stream."""
