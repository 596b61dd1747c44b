"""Repository hosts and archives as peers: one circuit breaker for each host, shared by all kinds of links to it.

Runs in the binder. Not for the public hosts' names (`pangeo_binder.hosts`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from ..errors import HostUnavailable
from ..peers import Peering, PeerKind, Peers
from ..policy.address import address_of

T = TypeVar("T")

_SECONDS = 30
"""For how long a host that has stopped answering is not asked; as long as it is given for an answer."""


def _refusal(host: str) -> HostUnavailable:
    return HostUnavailable(f"{host} does not answer this binder.", "Try again in a minute.")


class RepositoryPeers:
    """The hosts that links name."""

    def __init__(self) -> None:
        peering = Peering(
            kind=PeerKind.REPOSITORY_HOST,
            is_failure=lambda error: isinstance(error, HostUnavailable),
            refusal=_refusal,
            seconds=_SECONDS,
        )
        self._peers = Peers(peering)

    async def ask(self, url: str, ask: Callable[[], Awaitable[T]], repeat: bool = True) -> T:
        """Return what `ask` returns, which only reads from the repository at `url`; repeat it if it fails quickly.

        Raises what `ask` raises, and HostUnavailable at once if the host has stopped answering.
        """
        if not (host := address_of(url).host):
            return await ask()  # a folder of this machine
        return await self._peers.call(ask, host, subject=url, repeat=repeat)
