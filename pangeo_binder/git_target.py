"""The one server that a git command may contact, at addresses that were checked before.

Git and ssh resolve names and follow redirects themselves, so a check alone would not hold: a name server may answer
differently the next time. Git gets the checked addresses instead, and redirects are followed here. Used by the binder
and in build pods.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import urljoin

import aiohttp

from .addresses import DEFAULT_PORTS, AddressNotPublic, AddressRules, CheckedResolver, proxy_hosts

# strict, so that git, curl and ssh see the same host as this module: no escapes, no second `@`, no dot at the end
_NAME = r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?"
_URL = re.compile(
    rf"(?P<scheme>https?|ssh)://(?:[\w.~%!$&'()*+,;=:-]+@)?(?P<host>{_NAME}|\[[0-9A-Fa-f:.]+\])"
    r"(?::(?P<port>\d{1,5}))?(?P<path>/[^\s\\]*)?",
    re.ASCII,
)
_SCP = re.compile(rf"(?:[\w.-]+@)?(?P<host>{_NAME}):(?P<path>[^\s\\]+)", re.ASCII)
_NUMERIC = re.compile(r"(?:0[xX][0-9A-Fa-f]*|[0-9]+)(?:\.(?:0[xX][0-9A-Fa-f]*|[0-9]+)){0,3}")
_PLAIN_IPV4 = re.compile(r"(?:0|[1-9][0-9]{0,2})(?:\.(?:0|[1-9][0-9]{0,2})){3}")

_FIRST_REQUEST = "/info/refs?service=git-upload-pack"  # gitprotocol-http(5)
_REDIRECTS: Final = 5
_TIMEOUT: Final = aiohttp.ClientTimeout(total=20)
_UNREACHABLE: Final = "192.0.2.1"
"""An address of documentation, RFC 5737: nothing answers there."""
# `HTTP status 301` of curl as git prints it with http.followRedirects=false
_REDIRECTED = re.compile(r"returned error: 30[12378]\b")


class TargetRefused(OSError):
    """The server of a URL may not be contacted, or the URL names none."""


@dataclass(frozen=True, slots=True)
class Target:
    """A server, and the protocol and addresses by which git contacts it."""

    protocol: str
    """`http`, `https` or `ssh`."""
    host: str
    """In lower case; an IPv6 address has brackets."""
    port: int
    addresses: tuple[str, ...] = ()
    """Numeric addresses; empty if the host is one, or if the operator trusts the name."""

    def settings(self) -> tuple[str, ...]:
        """Return git's settings by which it contacts no other server by http. See git-config(1) and CURLOPT_RESOLVE."""
        # also keeps dumb servers from naming another server for objects: http-alternates count as redirects
        settings = ("http.followRedirects=false",)
        if self.protocol == "ssh" or not self.addresses or _is_number(self.host):
            return settings
        numbers = ",".join(f"[{each}]" if ":" in each else each for each in self.addresses)
        return (*settings, f"http.curloptResolve={self.host}:{self.port}:{numbers}")

    def ssh_options(self) -> str:
        """Return ssh's options by which it contacts the first address; see ssh_config(5)."""
        return f" -oHostName={self.addresses[0]} -oHostKeyAlias={self.host.strip('[]')}" if self.addresses else ""


def parse_target(url: str) -> Target:
    """Return the server that `url` names, without its addresses. Raises TargetRefused."""
    if not (found := _URL.fullmatch(url)):
        if "://" in url or not (found := _SCP.fullmatch(url)):
            raise TargetRefused("not the URL of a server")
        return Target("ssh", _host(found["host"]), DEFAULT_PORTS["ssh"])
    port = int(found["port"] or DEFAULT_PORTS[found["scheme"]])
    if not 0 < port < 65536:
        raise TargetRefused("not a port")
    return Target(found["scheme"], _host(found["host"]), port)


def _host(text: str) -> str:
    if _NUMERIC.fullmatch(text) and not _PLAIN_IPV4.fullmatch(text):
        raise TargetRefused("an address in a form that programs read differently")
    return text.lower()


def _is_number(host: str) -> bool:
    return host.startswith("[") or _PLAIN_IPV4.fullmatch(host) is not None


async def find_target(url: str, rules: AddressRules) -> Target:
    """Return the server that `url` names, at its allowed addresses. Raises TargetRefused, or OSError without any."""
    target = parse_target(url)
    host = target.host.strip("[]")
    if rules.trusts(host):
        return target
    try:
        addresses = await rules.addresses_of(host, target.port)
    except AddressNotPublic as error:
        raise TargetRefused(str(error)) from None
    except OSError:
        if target.protocol == "ssh" or not proxy_hosts():
            raise
        addresses = (_UNREACHABLE,)  # the operator's proxy resolves it; a program that ignores the proxy gets nowhere
    return Target(target.protocol, target.host, target.port, addresses)


def is_redirect(said: str) -> bool:
    """Return whether git's message `said` reports a redirect that it did not follow."""
    return _REDIRECTED.search(said) is not None


async def follow_redirects(url: str, rules: AddressRules) -> str:
    """Return the URL to which the server of `url` redirects git's first request. Raises TargetRefused or OSError."""
    asked = f"{url.rstrip('/')}{_FIRST_REQUEST}"
    connector = aiohttp.TCPConnector(resolver=CheckedResolver(rules), use_dns_cache=False)
    try:
        async with aiohttp.ClientSession(connector=connector, timeout=_TIMEOUT, trust_env=True) as session:
            for _ in range(_REDIRECTS):
                _check(asked, rules)
                async with session.get(asked, allow_redirects=False) as response:
                    if response.status not in (301, 302, 303, 307, 308):
                        break
                    asked = urljoin(asked, response.headers.get("Location", ""))
    except (TimeoutError, aiohttp.ClientError, ValueError):
        raise TargetRefused("a redirect that leads nowhere") from None
    if not asked.endswith(_FIRST_REQUEST):
        raise TargetRefused("a redirect to something else than a repository")  # git demands the same
    _check(asked, rules)
    return asked.removesuffix(_FIRST_REQUEST) + "/"


def _check(url: str, rules: AddressRules) -> None:
    """Refuse a URL that is not http or https, or names an address that is not allowed as a number."""
    target = parse_target(url)
    host = target.host.strip("[]")
    if target.protocol == "ssh":
        raise TargetRefused("a redirect to another protocol")
    if _is_number(target.host) and not rules.trusts(host) and not _allows(host, rules):
        raise TargetRefused(f"a redirect to {host}")


def _allows(address: str, rules: AddressRules) -> bool:
    try:
        return rules.allows(address)
    except ValueError:
        return False
