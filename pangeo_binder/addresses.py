"""Which network addresses requests for strangers may reach: public ones, and those that the operator names.

Links, repositories and servers name hosts, and the binder reaches services of its network that strangers cannot. A host
is resolved once and the connection goes to the checked addresses, because its name server may answer differently the
next time. Used by the binder and in build pods; not for the addresses of our own services.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import urlsplit
from urllib.request import getproxies

from aiohttp.abc import AbstractResolver, ResolveResult

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

DEFAULT_PORTS: Final = {"http": 80, "https": 443, "ssh": 22}
# RFC 6052: a NAT64 gateway sends what is for these addresses to the IPv4 address in the last 32 bits
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
_METADATA: Final = frozenset(
    ipaddress.ip_address(text)
    # https://learn.microsoft.com/en-us/azure/virtual-network/what-is-ip-address-168-63-129-16
    for text in ("168.63.129.16",)
)
"""Addresses of clouds' metadata services that are in no private network."""
_LOOKUPS: Final = 16
_LOOKUP_SECONDS: Final = 20

# a slow name server of a stranger must not take the threads of the event loop's own executor
_threads = ThreadPoolExecutor(_LOOKUPS, thread_name_prefix="names")


class AddressNotPublic(OSError):
    """A host has no address that may be contacted."""


@dataclass(frozen=True, slots=True)
class AddressRules:
    """Which addresses may be contacted; the default is public ones only."""

    everywhere: bool = False
    """Whether all addresses are allowed, as on a user's own machine."""
    hosts: frozenset[str] = frozenset()
    """Names, in lower case, or addresses of hosts that may be in a private network."""
    networks: tuple[Network, ...] = ()
    """Networks that are not public and still allowed."""

    def trusting(self, *urls: str) -> AddressRules:
        """Return these rules with the hosts of the operator's own `urls` added."""
        hosts = {host for url in urls if (host := urlsplit(url).hostname)}
        return replace(self, hosts=self.hosts | hosts)

    def trusts(self, host: str) -> bool:
        """Return whether `host` may be contacted at any address that its name server gives."""
        return self.everywhere or host.lower() in self.hosts

    def allows(self, address: str) -> bool:
        """Return whether the numeric `address` may be contacted, whatever its host."""
        if self.everywhere or is_public(address):
            return True
        found = ipaddress.ip_address(address.partition("%")[0])
        return any(found in network for network in self.networks if network.version == found.version)

    async def addresses_of(self, host: str, port: int, family: int = socket.AF_UNSPEC) -> tuple[str, ...]:
        """Return the addresses of `host` that may be contacted, at least one.

        Raises AddressNotPublic if there are only others, and OSError if there are none.
        """
        found = await self.look_up(host, port, family)
        if allowed := tuple(each for each in found if self.trusts(host) or self.allows(each)):
            return allowed
        raise AddressNotPublic(f"{host} is at {', '.join(found)}")

    async def look_up(self, host: str, port: int, family: int) -> tuple[str, ...]:
        """Return all addresses of `host`. Raises OSError if there are none."""
        loop = asyncio.get_running_loop()
        lookup = loop.run_in_executor(_threads, _look_up, host, port, family)
        return await asyncio.wait_for(lookup, _LOOKUP_SECONDS)  # its TimeoutError is an OSError


PUBLIC = AddressRules()
EVERYWHERE = AddressRules(everywhere=True)


def make_rules(hosts: Iterable[str] = (), networks: Iterable[str] = ()) -> AddressRules:
    """Return the rules that allow public addresses, `hosts` and `networks`. Raises ValueError for other texts."""
    return AddressRules(
        hosts=frozenset(host.lower() for host in hosts),
        networks=tuple(ipaddress.ip_network(network) for network in networks),
    )


def is_public(address: str) -> bool:
    """Return whether the numeric `address` is one of the public internet. Raises ValueError for other texts."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv4Address):
        return _is_public(found)
    if found in _NAT64:
        return _is_public(ipaddress.IPv4Address(int(found) & 0xFFFFFFFF))
    if inner := found.ipv4_mapped or found.sixtofour:
        return _is_public(inner)
    return _is_public(found) and not found.is_site_local


def _is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    return address.is_global and not address.is_multicast and not address.is_reserved and address not in _METADATA


def _look_up(host: str, port: int, family: int) -> tuple[str, ...]:
    found = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)
    return tuple(dict.fromkeys(str(each[4][0]) for each in found))


def proxy_hosts() -> frozenset[tuple[str, int]]:
    """Return the hosts and ports of the operator's HTTP proxies, which make the connections if there are any."""
    found = (urlsplit(url) for scheme, url in getproxies().items() if scheme in ("http", "https"))
    return frozenset(
        (parts.hostname.lower(), parts.port or DEFAULT_PORTS.get(parts.scheme, 80)) for parts in found if parts.hostname
    )


class CheckedResolver(AbstractResolver):
    """The resolver of an aiohttp client that contacts only allowed addresses, the operator's proxies, and `own`.

    `own` is a host and port. aiohttp does not resolve numeric hosts: check those with `AddressRules.allows`.
    """

    def __init__(self, rules: AddressRules, own: tuple[str, int] | None = None) -> None:
        self.rules = rules
        self._trusted = proxy_hosts() | {own}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the allowed addresses of `host`. Raises OSError."""
        rules = EVERYWHERE if (host.lower(), port) in self._trusted else self.rules
        found = await rules.addresses_of(host, port, family)
        return [_result(host, port, address) for address in found]

    async def close(self) -> None:
        """Do nothing: there is nothing to close."""


def _result(host: str, port: int, address: str) -> ResolveResult:
    family: Any = socket.AF_INET6 if ":" in address else socket.AF_INET
    flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
    return ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=flags)
