"""Signs and verifies tickets: the binder's signed description of a launch and its grant for the hub.

A ticket is bound to a user and server name, valid for minutes, used once, and has no secret in it (user_options are
readable). Keys rotate: the first of the list signs, all verify. The server's token is derived here too, so it is never
transmitted. Pure; used by the binder (sign) and the hub (verify).
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import Any

from itsdangerous import BadData, URLSafeSerializer

from .errors import TicketExpired, TicketInvalid, TicketUsed
from .model import Launch, from_wire, to_wire

TICKET_SECONDS = 300
"""How long a ticket is valid: long enough for a queue at the hub."""

MAX_CHARACTERS = 1 << 16
"""The maximum length of a ticket; its largest part is the list of the catalogue's entries."""
_SALT = "pangeo-binder/ticket/1"
_RELAUNCH_HINT = "Open the launch link again."


@dataclass(frozen=True, slots=True)
class Verified:
    """The content of a valid ticket: the launch, and the token its server must require."""

    launch: Launch
    server_token: str

    def __repr__(self) -> str:
        return f"Verified({self.launch.id})"


def _serializer(key: str) -> URLSafeSerializer:
    return URLSafeSerializer(key, salt=_SALT, signer_kwargs={"digest_method": hashlib.sha256, "key_derivation": "hmac"})


def server_token(key: str, launch_id: str) -> str:
    """Return the token of a launch's server, which binder and hub both derive from the signing key."""
    return hmac.new(key.encode(), f"server-token/{launch_id}".encode(), hashlib.sha256).hexdigest()


def sign(launch: Launch, keys: list[str], now: float) -> str:
    """Return a ticket for `launch`, issued at `now` (seconds since the epoch), signed with the first of `keys`."""
    return str(_serializer(keys[0]).dumps({"issued": now, "launch": to_wire(launch)}))


def _open(ticket: str, keys: list[str]) -> tuple[str, Any]:
    for key in keys if len(ticket) <= MAX_CHARACTERS else ():
        try:
            return key, _serializer(key).loads(ticket)
        except BadData:
            continue
    raise TicketInvalid("The request for this server has no valid ticket.", _RELAUNCH_HINT)


def _launch(body: Any) -> Launch:
    try:
        return from_wire(Launch, body["launch"])
    except (KeyError, TypeError, ValueError):
        raise TicketInvalid("This ticket was signed by another version of pangeo-binder.", _RELAUNCH_HINT) from None


def read(ticket: str, keys: list[str]) -> Launch:
    """Return the launch of a ticket of any age, without using it up.

    For counting running launches: the hub keeps the ticket of each server. Raises TicketInvalid.
    """
    return _launch(_open(ticket, keys)[1])


def token_of(ticket: str, keys: list[str]) -> str:
    """Return the token of the server that a ticket of any age started. Raises TicketInvalid."""
    key, body = _open(ticket, keys)
    return server_token(key, _launch(body).id)


class TicketVerifier:
    """Verifier that accepts each ticket once; the hub process has one instance.

    It refuses tickets issued before `started` (its start, in seconds since the epoch), because it remembers used
    tickets only in memory. So each ticket is accepted once, even over restarts, without a store.
    """

    def __init__(self, keys: list[str], started: float) -> None:
        self._keys = keys
        self._started = started
        self._used: dict[str, float] = {}

    def verify(self, ticket: str, user: str, server: str, now: float) -> Verified:
        """Return the launch and token that `ticket` grants to `user`'s server `server`, and mark it as used.

        Raises TicketInvalid, TicketExpired or TicketUsed; a refused ticket is not marked.
        """
        key, body = _open(ticket, self._keys)
        launch, issued = _launch(body), float(body["issued"])
        if (launch.user, launch.server) != (user, server):
            raise TicketInvalid("This ticket was issued for another server.", _RELAUNCH_HINT)
        if launch.id in self._used:
            raise TicketUsed("This ticket was used before.", _RELAUNCH_HINT)
        if issued < self._started or not issued <= now + 1 <= issued + TICKET_SECONDS + 1:
            raise TicketExpired(f"This ticket is older than {TICKET_SECONDS} seconds or than the hub.", _RELAUNCH_HINT)
        self._used = {id_: when for id_, when in self._used.items() if when + TICKET_SECONDS >= now}
        self._used[launch.id] = issued
        return Verified(launch, server_token(key, launch.id))
