"""Limits on launch requests: build tokens, a rate per network, banned networks, and pages of other sites.

These apply before the policy, as in BinderHub. A launch page carries a short-lived build token, which proves that a
user opened the page. A request without a token counts against its network's rate. The policy, not this module, decides
what a launch may use. Counts are in memory, so each binder replica counts separately. Binder process.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from ..errors import NotAllowed, QuotaExceeded
from ..loopback import is_named
from .build_token import BuildTokens

_IPV6_SITE_BITS = 64  # one home or lab gets at least a /64, so a single address does not identify it
_COUNTED_NETWORKS = 100_000
_OTHERS = "others"
"""All networks that come after those counted share one count, so that no number of addresses fills the memory."""
_PORT = re.compile(r":[0-9]*$")
_OPEN_THE_LINK = "Open the launch link in your browser again."


@dataclass(frozen=True, slots=True)
class Limits:
    """Settings of the limits. The defaults fit a personal machine."""

    build_token_key: str | bytes
    """The key that signs build tokens; it must be the same in every replica."""
    build_token_seconds: int = 1800
    """How long a launch page can connect to its launch again, for example when the network fails in a long build."""
    require_build_token: bool = False
    """Whether to refuse a request without a build token; else it only counts against the rate."""
    rate_limit: int = 0
    """How many launches without a build token a network gets per window; 0 for no limit."""
    rate_seconds: int = 3600
    banned_networks: tuple[str, ...] = ()
    """Networks in CIDR notation that get no launch and no page."""
    hosts: tuple[str, ...] = ()
    """The allowed host names of requests, without ports; empty for any. A service on loopback needs them: another site
    can point its own name to loopback (DNS rebinding), and its pages would then count as ours."""
    cors_allow_origin: str = ""
    """The other origins whose pages may launch (thebe), separated by spaces; `*` for all, empty for none."""
    session_domain: str = ""
    """The host below which each session has its own; empty if sessions have the binder's."""
    streams: int = 500
    """How many launches a network may follow at a time, each with an open connection; 0 for no limit."""
    build_token_check_origin: bool = True
    """Whether a build token is valid only for pages of the origin that got it."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Origin of a request, from the client's headers and the proxy."""

    address: str
    origin: str = ""
    """The Origin header; empty if the browser sent none."""
    cross_site: bool = False
    """Whether the request comes from a foreign page, by Sec-Fetch-Site and Origin: a page of another site, or of
    another host or port of the same site."""
    host: str = ""
    """The Host header."""

    @property
    def page(self) -> str:
        """The host and port of the requesting page; without an Origin header, which same-origin requests lack, ours."""
        return host_of(self.origin) or self.host


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text.partition("%")[0])  # a scope id (fe80::1%eth0) is not part of the network
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def network_of(address: str) -> str:
    """Return the network for which launches from `address` count: the IPv4 address, the IPv6 /64, or `unknown`."""
    parsed = _address(address)
    if parsed is None:
        return "unknown"
    if isinstance(parsed, IPv4Address):
        return str(parsed)
    return str(ip_network((parsed, _IPV6_SITE_BITS), strict=False))


def host_of(origin: str) -> str:
    """Return the host and port of an Origin header."""
    return origin.rpartition("//")[2]


class RateLimiter:
    """Counter of launches per network in fixed windows; all windows end together, so old counts are dropped at once."""

    def __init__(self, limit: int, seconds: int) -> None:
        self._limit, self._seconds = limit, seconds
        self._window = -1
        self._counts: Counter[str] = Counter()

    def take(self, network: str, now: float) -> None:
        """Count one launch for `network` at `now` (seconds since the epoch).

        Raises QuotaExceeded if the network has no launch left in this window.
        """
        if not self._limit:
            return
        window = int(now // self._seconds)
        if window != self._window:
            self._window, self._counts = window, Counter()
        if len(self._counts) >= _COUNTED_NETWORKS and network not in self._counts:
            network = _OTHERS
        self._counts[network] += 1
        if self._counts[network] > self._limit:
            minutes = math.ceil(((window + 1) * self._seconds - now) / 60)
            raise QuotaExceeded(
                f"Your network has used all of its {self._limit} launches without a launch page.",
                f"Open the launch link in a browser, or try again in {minutes} min.",
            )


class LimitChecker:
    """Checks of requests against the limits; one instance lives as long as the binder process.

    Raises ValueError if a banned network is not in CIDR notation.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._banned = tuple(ip_network(text, strict=False) for text in limits.banned_networks)
        self._rate = RateLimiter(limits.rate_limit, limits.rate_seconds)
        self.build_tokens = BuildTokens(
            limits.build_token_key, limits.build_token_seconds, limits.build_token_check_origin
        )
        self._streams: Counter[str] = Counter()

    def check_network(self, address: str) -> None:
        """Raise NotAllowed if `address` is in a banned network."""
        parsed = _address(address)
        if parsed is not None and any(parsed in network for network in self._banned):
            raise NotAllowed("This service does not allow your network.", "Ask the operators of this service why.")

    def check_host(self, host: str) -> None:
        """Raise NotAllowed if `host` (a Host header, with or without a port) is not an allowed host name."""
        if self._limits.hosts and not is_named(host, self._limits.hosts):
            raise NotAllowed(
                "This service does not allow requests to this host name.",
                f"Open it at http://{self._limits.hosts[0]}, with its port.",
            )

    def session_domain(self, host: str) -> str:
        """Return the domain of sessions' own hosts, with the port of `host` (a Host header); empty if none."""
        port = _PORT.search(host)
        return self._limits.session_domain and self._limits.session_domain + (port.group() if port else "")

    def is_session_host(self, host: str) -> bool:
        """Return whether `host` (a Host header) is a session's own."""
        domain = self._limits.session_domain
        return bool(domain) and _PORT.sub("", host.lower()).endswith(f".{domain}")

    def allows_origin(self, origin: str) -> bool:
        """Return whether pages of the foreign `origin` may launch here."""
        allowed = self._limits.cors_allow_origin.split()
        return bool(origin) and ("*" in allowed or origin in allowed)

    @contextmanager
    def stream(self, network: str) -> Iterator[None]:
        """Count a stream of events to `network` while it is open. Raises QuotaExceeded if the network has too many."""
        if self._limits.streams and self._streams[network] >= self._limits.streams:
            raise QuotaExceeded(
                f"Your network already follows {self._limits.streams} launches.",
                "Close a launch page that you left open.",
            )
        self._streams[network] += 1
        try:
            yield
        finally:
            self._streams -= Counter((network,))

    def check_launch(self, caller: Caller, proven: bool, now: float) -> None:
        """Raise NotAllowed or QuotaExceeded if `caller` may not launch; `proven` means that it has a build token."""
        self.check_host(caller.host)
        self.check_network(caller.address)
        if caller.cross_site and not self.allows_origin(caller.origin):
            raise NotAllowed("This service does not allow launches from pages of other sites.", _OPEN_THE_LINK)
        if proven:
            return
        if self._limits.require_build_token:
            raise NotAllowed("The launch page has expired, or the request has no build token.", _OPEN_THE_LINK)
        self._rate.take(network_of(caller.address), now)
