"""Who may ask for a launch at all: build tokens, a rate per network, banned networks, other sites' pages.

These guard the door before the policy is asked, as BinderHub does it: a launch page carries a short-lived build token
that proves a person opened the page; a request without one counts against its network's rate. Not for what a launch
may use, which is the policy's. Counts live in memory, so each binder replica counts for itself. Binder process.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from itsdangerous import BadData, URLSafeTimedSerializer

from ..errors import NotAllowed, QuotaExceeded

_SALT = "pangeo-binder/build-token/1"
_IPV6_SITE_BITS = 64  # one home or lab is handed at least a /64, so an address of its own says nothing
_PORT = re.compile(r":[0-9]*$")
_OPEN_THE_LINK = "Open the launch link in your browser again."


@dataclass(frozen=True, slots=True)
class Limits:
    """The door's settings. The defaults are right for one person's own machine."""

    build_token_key: str
    """Signs build tokens; the same in every replica."""
    build_token_seconds: int = 1800
    """How long a launch page can (re)connect to its launch: a long build with a short loss of network."""
    require_build_token: bool = False
    """Whether a request without a build token is refused; else it only counts against the rate."""
    rate_limit: int = 0
    """How many launches without a build token a network gets per window; 0 for no limit."""
    rate_seconds: int = 3600
    banned_networks: tuple[str, ...] = ()
    """Networks in CIDR notation that get no launch and no page."""
    hosts: tuple[str, ...] = ()
    """The names under which this service may be asked, without ports; empty for any. A service that only listens on
    loopback needs them: another site's name may be made to lead there (DNS rebinding), and its pages are then ours."""
    cors_allow_origin: str = ""
    """The one other origin whose pages may launch (thebe), `*` for all, empty for none."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Where a request comes from, as the client's headers and the proxy say."""

    address: str
    origin: str = ""
    """The Origin header; empty where the browser sent none."""
    cross_site: bool = False
    """Whether the browser says (Sec-Fetch-Site, Origin) that a page which is not ours asks: of another site, or of the
    same site's other hosts and ports."""
    host: str = ""
    """The Host header: under which name this service was asked."""


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text.partition("%")[0])  # a scope id (fe80::1%eth0) is not part of the network
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def network_of(address: str) -> str:
    """Return the network that launches from `address` count for: the IPv4 address or the IPv6 /64, or `unknown`."""
    parsed = _address(address)
    if parsed is None:
        return "unknown"
    if isinstance(parsed, IPv4Address):
        return str(parsed)
    return str(ip_network((parsed, _IPV6_SITE_BITS), strict=False))


def host_of(origin: str) -> str:
    """Return the host and port that an Origin header names."""
    return origin.rpartition("//")[2]


class RateLimiter:
    """Counts launches per network in fixed windows; all windows end together, so old counts need no sweeping."""

    def __init__(self, limit: int, seconds: int) -> None:
        self._limit, self._seconds = limit, seconds
        self._window = -1
        self._counts: Counter[str] = Counter()

    def take(self, network: str, now: float) -> None:
        """Count one launch for `network` at `now` (seconds since the epoch).

        Raises QuotaExceeded where the network has none left in this window.
        """
        if not self._limit:
            return
        window = int(now // self._seconds)
        if window != self._window:
            self._window, self._counts = window, Counter()
        self._counts[network] += 1
        if self._counts[network] > self._limit:
            minutes = math.ceil(((window + 1) * self._seconds - now) / 60)
            raise QuotaExceeded(
                f"Your network has used its {self._limit} launches without a launch page.",
                f"Open the launch link in a browser, or try again in {minutes} min.",
            )


class Gate:
    """Decides at the door; one instance lives as long as the binder process.

    Raises ValueError where a banned network is not in CIDR notation.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._banned = tuple(ip_network(text, strict=False) for text in limits.banned_networks)
        self._rate = RateLimiter(limits.rate_limit, limits.rate_seconds)
        self._tokens = URLSafeTimedSerializer(limits.build_token_key, salt=_SALT)

    def issue(self, provider: str, spec: str) -> str:
        """Return a build token for one link; it is worth nothing for another."""
        return str(self._tokens.dumps([provider, spec]))

    def holds(self, token: str, provider: str, spec: str) -> bool:
        """Return whether `token` is a fresh build token for this link."""
        try:
            return bool(self._tokens.loads(token, max_age=self._limits.build_token_seconds) == [provider, spec])
        except BadData:
            return False

    def check_network(self, address: str) -> None:
        """Raise NotAllowed where `address` is in a banned network."""
        parsed = _address(address)
        if parsed is not None and any(parsed in network for network in self._banned):
            raise NotAllowed("Your network is not allowed here.", "Ask the operators of this service why.")

    def check_host(self, host: str) -> None:
        """Raise NotAllowed where `host` (a Host header, with or without a port) is none of this service's names."""
        if self._limits.hosts and _PORT.sub("", host.lower()) not in self._limits.hosts:
            raise NotAllowed(
                "This service is not at the address it was asked under.",
                f"Open it at http://{self._limits.hosts[0]}, with its port.",
            )

    def allows_origin(self, origin: str) -> bool:
        """Return whether pages of another `origin` may launch here."""
        return self._limits.cors_allow_origin in ("*", origin) and bool(origin)

    def check_launch(self, caller: Caller, proven: bool, now: float) -> None:
        """Raise NotAllowed or QuotaExceeded where `caller` gets no launch; `proven` by a build token."""
        self.check_host(caller.host)
        self.check_network(caller.address)
        if caller.cross_site and not self.allows_origin(caller.origin):
            raise NotAllowed("Another site's page may not launch here.", _OPEN_THE_LINK)
        if proven:
            return
        if self._limits.require_build_token:
            raise NotAllowed("A launch needs the token of a fresh launch page.", _OPEN_THE_LINK)
        self._rate.take(network_of(caller.address), now)
