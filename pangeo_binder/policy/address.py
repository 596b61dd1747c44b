"""The one form in which the policy sees a repository's address, and the patterns by which rules name it. Pure.

Nobody may avoid a rule by writing the same repository's address in another way, so what servers treat alike is one
address here: scheme, letter case, default port, user name, percent-encoding, `.git`, slashes, dots, the ssh and www
hosts of GitHub and GitLab. Whether an address may be read at all is for `repos` to check, more strictly.
"""

from __future__ import annotations

import posixpath
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from urllib.parse import quote, unquote

from ..hosts import ARCHIVES, CANONICAL, HOSTS
from ..model import RepoRef

_DEFAULT_PORTS = {"http": "80", "https": "443", "ssh": "22", "git": "9418"}
_OPEN_HOSTS = frozenset(host.name for host in HOSTS.values())
"""Hosts at which everybody can make an account."""
_WIKI = ".wiki"
_HOST_AND_PORT = re.compile(r"(\[[^\]]*\]|[^:]*):?([0-9]*)")
_AUTHORITY_AND_PATH = re.compile(r"([^/?#]*)([^?#]*)")


@dataclass(frozen=True, slots=True)
class Address:
    """The location of a repository."""

    host: str
    """With its port unless that is the default of the scheme; empty for a directory of this machine."""
    path: str
    """Without a leading slash, unless it is a directory of this machine."""

    @property
    def without_port(self) -> Address:
        """The same path at the host without its port."""
        bare = self.host.rpartition("]")[0] + "]" if self.host.startswith("[") else self.host.partition(":")[0]
        return Address(bare, self.path)

    def __str__(self) -> str:
        path = quote(self.path, safe="/:@!$&'()*+,;=~")
        return f"git/https://{self.host}/{path}" if self.host else f"git/file://{path}"


@dataclass(frozen=True, slots=True)
class Pattern:
    """A pattern of repositories as a rule writes it; `*` stands for any text and does not reach from host to path."""

    text: str
    address: Address | None
    """The host and path to match, or None for a pattern that begins with `*` and is matched against all of it."""

    @property
    def is_everything(self) -> bool:
        """Whether it matches every repository."""
        return self.text.strip("*") == ""

    @property
    def is_any_host(self) -> bool:
        """Whether the pattern leaves the host open: then anybody can serve such a path from a host of their own."""
        return self.address is None or "*" in self.address.host.removeprefix("*.")

    @property
    def is_any_path(self) -> bool:
        """Whether it matches all repositories of its hosts, forks and their parents alike."""
        return self.is_everything or (self.address is not None and self.address.path.strip("*") == "")

    @property
    def is_anybodys(self) -> bool:
        """Whether anybody can make an account that matches, at a host where everybody can register."""
        if self.address is None or self.is_any_path or self.address.host not in _OPEN_HOSTS:
            return False
        return "*" in self.address.path.partition("/")[0]

    def lets_in(self, address: Address) -> bool:
        """Return whether a rule with this pattern may grant its tier to `address`.

        A wiki has other writers than its repository, on GitHub everybody if the owner allows it, so the pattern has to
        name it:
        https://docs.github.com/en/communities/documenting-your-project-with-wikis/changing-access-permissions-for-wikis
        """
        if not self.matches(address):
            return False
        named = self.address is not None and self.address.path.endswith(_WIKI)
        return named or self.is_any_path or not address.path.endswith(_WIKI)

    def matches(self, address: Address) -> bool:
        """Return whether the pattern names the repository at `address`."""
        if self.address is None:
            return _glob(f"{address.host}/{address.path}".casefold(), self.text.casefold())
        return _glob(address.host, self.address.host) and _glob(address.path, self.address.path)


def canonical(repo: RepoRef) -> str:
    """Return the one key of a repository, whichever way its address is written: `git/https://github.com/org/repo`."""
    return str(address_of(repo.url))


@lru_cache(maxsize=1000)
def address_of(url: str) -> Address:
    """Return the address `url` names: an http, https, ssh or git URL, an `scp` address, or a local path."""
    url = url.strip()
    scheme, is_url, rest = url.partition("://")
    # `https::https://…` is another way to name git's helper for https: gitremote-helpers(7)
    scheme = scheme.rpartition("::")[2].lower()
    if is_url and scheme == "file":
        return Address("", _local(unquote(rest)))
    if is_url:
        authority, path = _AUTHORITY_AND_PATH.match(rest).groups()  # type: ignore[union-attr]  # matches any text
        return Address(_host(authority, scheme), _settled(path, _simpler))
    host, colon, path = url.partition(":")
    if not colon or "/" in host:
        return Address("", _local(url))
    return Address(_host(host, "ssh"), _settled(path, _simpler))


def pattern_of(text: str) -> Pattern:
    """Return the pattern a rule writes as `text`.

    Raises ValueError with a sentence if it could never match as its writer means it.
    """
    if not text.strip() or text != text.strip() or "?" in text:
        raise ValueError("A repository pattern is not empty, has no spaces around it, and `*` is its only wildcard.")
    if text.startswith("*"):
        return Pattern(text, None)
    kind, _, rest = text.partition("/")
    if kind in HOSTS:
        url = f"{HOSTS[kind].url}/{rest}"
        if "/" not in rest and not rest.endswith("*"):
            raise ValueError(f"`{text}` names no repository; write `{kind}/{rest or 'org'}/*`.")
    elif kind in ARCHIVES:
        url = f"{ARCHIVES[kind]}/{rest}"
        if not rest or "/" in rest:
            raise ValueError(f"`{text}` names no record; write `{kind}/<id>` or `{kind}/*`.")
    elif kind == "git" and ("://" in rest or ":" in rest.partition("/")[0] or rest.startswith("/")):
        url = rest
    else:
        raise ValueError(
            f"`{text}` names no place; write `gh/org/repo`, `gist/user/*`, `gl/org/repo`, `git/https://…` or `*`."
        )
    address = address_of(url)
    if text.endswith("/") or not address.path.strip("/"):
        raise ValueError(f"`{text}` names no repository; write `{text.rstrip('/')}/*`.")
    return Pattern(text, address)


def _glob(text: str, pattern: str) -> bool:
    return fnmatchcase(text, pattern.replace("[", "[[]"))  # brackets of an IPv6 host are literal


def _settled(text: str, step: Callable[[str], str]) -> str:
    while (simpler := step(text)) != text:
        text = simpler
    return text


def _simpler(path: str) -> str:
    path = _folded(path)
    while path.endswith(("/", ".git")):
        path = path.removesuffix("/").removesuffix(".git")
    return posixpath.normpath(f"/{path.lstrip('/')}").lstrip("/")


def _local(path: str) -> str:
    path = posixpath.normpath(f"/{path.strip().lstrip('/')}")
    return path.removesuffix("/.git").removesuffix(".git") or "/"


def _folded(text: str) -> str:
    # forges ignore case and decode an address once, so texts that are equal here are one repository for them
    return unicodedata.normalize("NFKC", unquote(text).casefold())


def _host(authority: str, scheme: str) -> str:
    found = _HOST_AND_PORT.fullmatch(authority.rpartition("@")[2])
    name, port = found.groups() if found else (authority, "")
    # what a host cannot hold stays encoded, so that `github.com%2F.example.org` never reads as GitHub
    name = quote(_settled(name, _folded).rstrip("."), safe="[]:*")
    port = str(int(port)) if port else ""
    host = f"{name}:{port}" if port and port != _DEFAULT_PORTS.get(scheme) else name
    return CANONICAL.get(host, host)
