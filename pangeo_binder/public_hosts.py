"""Which addresses a download may contact: public ones, and the one server that the caller names.

Repositories and answers of other services name addresses, and this process can reach services of its network that they
cannot. Used by the binder and in build pods, also for what their answers redirect to.
"""

from __future__ import annotations

import socket
from typing import Final
from urllib.parse import SplitResult, urlsplit

from aiohttp.abc import ResolveResult

from .addresses import PUBLIC, AddressNotPublic, AddressRules, CheckedResolver

_PORTS: Final = {"http": 80, "https": 443}


class AddressRefused(OSError):
    """An address that must not be contacted; the text completes a sentence with "because"."""


class Addresses(CheckedResolver):
    """Resolver of host names that refuses addresses that may not be contacted.

    Without `rules` these are all private ones, except the one of `server`, a URL that the operator set, if it is given.
    With `rules`, a link named `server`: on a user's own machine it may be private too, else `rules` decide.
    """

    def __init__(self, server: str, rules: AddressRules | None = None) -> None:
        own = place(urlsplit(server)) if server else None
        trusts_own = rules is None or rules.everywhere
        super().__init__(PUBLIC if rules is None or rules.everywhere else rules, own=own if trusts_own else None)
        self._own = own if own and (trusts_own or self.rules.trusts(own[0])) else None

    def check(self, url: str) -> None:
        """Refuse a URL of another scheme, and a private address written as numbers, which is not resolved.

        Raises AddressRefused.
        """
        parts = web_parts(url)
        if not parts:
            raise AddressRefused("their server names an address that is neither http nor https")
        if place(parts) != self._own and not self._allows(parts.hostname or ""):
            raise _refused()

    def _allows(self, host: str) -> bool:
        try:
            return self.rules.allows(host)
        except ValueError:
            return True  # a name

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the addresses of `host`, without those that are refused. Raises OSError."""
        try:
            return await super().resolve(host, port, family)
        except AddressNotPublic:
            raise _refused() from None


def _refused() -> AddressRefused:
    return AddressRefused("their server names an address in a private network")


def web_parts(url: str) -> SplitResult | None:
    """Return the parts of an http or https URL with a host; else None."""
    try:
        parts = urlsplit(url)
        return parts if parts.scheme in _PORTS and parts.hostname and place(parts) else None
    except ValueError:
        return None


def place(parts: SplitResult) -> tuple[str, int]:
    """Return the host and port of a URL."""
    return (parts.hostname or "").lower(), parts.port or _PORTS[parts.scheme]
