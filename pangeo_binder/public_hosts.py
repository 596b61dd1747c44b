"""Which addresses a download may contact: public ones, and the one server that the caller names.

Repositories and answers of other services name addresses, and this process can reach services of its network that they
cannot. Used by the binder and in build pods, also for what their answers redirect to.
"""

from __future__ import annotations

import ipaddress
import socket
from typing import Final
from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

_PORTS: Final = {"http": 80, "https": 443}


class AddressRefused(OSError):
    """An address that must not be contacted; the text completes a sentence with "because"."""


class Addresses(AbstractResolver):
    """Resolver of host names that refuses addresses of private networks, except those of `server`, a URL, if given."""

    def __init__(self, server: str) -> None:
        proxies = [web_parts(url) for scheme, url in getproxies().items() if scheme in _PORTS]
        self._own = place(urlsplit(server)) if server else None
        self._allowed = {self._own, *(place(proxy) for proxy in proxies if proxy)}
        self._resolver = ThreadedResolver()

    def check(self, url: str) -> None:
        """Refuse a URL of another scheme, and a private address written as numbers, which is not resolved.

        Raises AddressRefused.
        """
        parts = web_parts(url)
        if not parts:
            raise AddressRefused("their server names an address that is neither http nor https")
        if place(parts) != self._own and not _is_public(parts.hostname or "", True):
            raise _refused()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the addresses of `host`, without those that are refused. Raises OSError."""
        found = await self._resolver.resolve(host, port, family)
        if (host.lower(), port) in self._allowed:
            return found
        if public := [each for each in found if _is_public(each["host"], False)]:
            return public
        raise _refused()

    async def close(self) -> None:
        """Close the resolver."""
        await self._resolver.close()


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


def _is_public(host: str, name: bool) -> bool:
    """Return whether the address `host` is public; `name` is the answer for a name."""
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_global
    except ValueError:
        return name
