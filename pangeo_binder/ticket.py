"""Signs and verifies tickets: the binder's word to the hub on what one launch is and may use.

A ticket is bound to a user and server name, lives for minutes, is used once, and holds no secret (user_options are
readable). Keys rotate: the first of the list signs, all verify. The server's own token is derived here as well, so that
it never has to travel. Pure; used by the binder (sign) and the hub (verify).
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
"""How long a ticket lives: a queue at the hub, not a person's coffee."""

_SALT = "pangeo-binder/ticket/1"
_AGAIN = "Open the launch link again."


@dataclass(frozen=True, slots=True)
class Verified:
    """A ticket that held: the launch, and the token its server must ask for."""

    launch: Launch
    server_token: str

    def __repr__(self) -> str:
        return f"Verified({self.launch.id})"


def _serializer(key: str) -> URLSafeSerializer:
    return URLSafeSerializer(key, salt=_SALT, signer_kwargs={"digest_method": hashlib.sha256, "key_derivation": "hmac"})


def server_token(key: str, launch_id: str) -> str:
    """Return the token of a launch's own server, which binder and hub derive alike from the signing key."""
    return hmac.new(key.encode(), f"server-token/{launch_id}".encode(), hashlib.sha256).hexdigest()


def sign(launch: Launch, keys: list[str], now: float) -> str:
    """Return a ticket for `launch`, issued at `now` (seconds since the epoch), signed with the first of `keys`."""
    return str(_serializer(keys[0]).dumps({"issued": now, "launch": to_wire(launch)}))


def _open(ticket: str, keys: list[str]) -> tuple[str, Any]:
    for key in keys:
        try:
            return key, _serializer(key).loads(ticket)
        except BadData:
            continue
    raise TicketInvalid("This server was asked for without a valid ticket.", _AGAIN)


def _launch(body: Any) -> Launch:
    try:
        return from_wire(Launch, body["launch"])
    except (KeyError, TypeError, ValueError):
        raise TicketInvalid("This ticket was signed by another version of pangeo-binder.", _AGAIN) from None


def read(ticket: str, keys: list[str]) -> Launch:
    """Return the launch a ticket was signed for, of whatever age, without spending it.

    For accounting of what runs: the hub keeps the ticket a server was started with. Raises TicketInvalid.
    """
    return _launch(_open(ticket, keys)[1])


class TicketVerifier:
    """Verifies each ticket at most once; one instance lives as long as the hub process.

    A ticket issued before `started` (the verifier's birth, seconds since the epoch) is refused, because only this
    instance's memory says which were used: that makes "once" hold over restarts without a store.
    """

    def __init__(self, keys: list[str], started: float) -> None:
        self._keys = keys
        self._started = started
        self._used: dict[str, float] = {}

    def verify(self, ticket: str, user: str, server: str, now: float) -> Verified:
        """Return what `ticket` grants to `user`'s server `server`, and spend it.

        Raises TicketInvalid, TicketExpired or TicketUsed; a refused ticket is not spent.
        """
        key, body = _open(ticket, self._keys)
        launch, issued = _launch(body), float(body["issued"])
        if (launch.user, launch.server) != (user, server):
            raise TicketInvalid("This ticket was issued for another server.", _AGAIN)
        if launch.id in self._used:
            raise TicketUsed("This ticket was used before.", _AGAIN)
        if issued < self._started or not issued <= now + 1 <= issued + TICKET_SECONDS + 1:
            raise TicketExpired(f"This ticket is older than {TICKET_SECONDS} seconds or than the hub.", _AGAIN)
        self._used = {id_: when for id_, when in self._used.items() if when + TICKET_SECONDS >= now}
        self._used[launch.id] = issued
        return Verified(launch, server_token(key, launch.id))
