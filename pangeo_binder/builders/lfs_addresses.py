"""Which addresses a fetch of LFS files may contact: the repository's own server, and public addresses.

A repository and its server name the addresses, and the binder can reach services of its network that they cannot. Runs
in the binder and in build pods.
"""

from __future__ import annotations

import socket
from typing import Final
from urllib.parse import SplitResult, urlsplit

from aiohttp.abc import ResolveResult

from ..addresses import PUBLIC, AddressNotPublic, AddressRules, CheckedResolver

_PORTS: Final = {"http": 80, "https": 443}


class AddressRefused(OSError):
    """An address that must not be contacted; the text completes a sentence with "because"."""


def lfs_server(repository: str, named: str) -> str:
    """Return the address of the LFS server of the repository at the URL `repository`; `.lfsconfig` names `named` or ''.

    Rules: https://github.com/git-lfs/git-lfs/blob/main/docs/api/server-discovery.md. Raises AddressRefused.
    """
    own = _split(repository)
    if not own:
        raise AddressRefused("the repository's address is neither http nor https")
    if not named:
        path = repository.rstrip("/")
        return f"{path}/info/lfs" if path.endswith(".git") else f"{path}.git/info/lfs"
    other = _split(named)
    if not other or other.scheme != own.scheme or _place(other) != _place(own) or other.username is not None:
        raise AddressRefused("the repository's .lfsconfig names another server than the repository's")
    return named.rstrip("/")


class Addresses(CheckedResolver):
    """Resolver of host names that refuses addresses that `rules` do not allow.

    On a user's own machine it also refuses private addresses, except the LFS server's own.
    """

    def __init__(self, server: str, rules: AddressRules) -> None:
        place = _place(urlsplit(server))
        super().__init__(PUBLIC if rules.everywhere else rules, own=place if rules.everywhere else None)
        self._own = place if rules.everywhere or rules.trusts(place[0]) else None

    def check(self, url: str) -> None:
        """Refuse a URL of another scheme, and a private address written as numbers, which is not resolved.

        Raises AddressRefused.
        """
        parts = _split(url)
        if not parts:
            raise AddressRefused("their server names an address that is neither http nor https")
        if _place(parts) != self._own and not self._allows(parts.hostname or ""):
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


def _split(url: str) -> SplitResult | None:
    """Return the parts of an http or https URL with a host; else None."""
    try:
        parts = urlsplit(url)
        return parts if parts.scheme in _PORTS and parts.hostname and _place(parts) else None
    except ValueError:
        return None


def _place(parts: SplitResult) -> tuple[str, int]:
    return (parts.hostname or "").lower(), parts.port or _PORTS[parts.scheme]
