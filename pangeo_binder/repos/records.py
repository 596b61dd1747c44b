"""What the kinds of archives' records have in common: links by DOI or by address, and one address for each record.

Runs in the binder. A driver says which of its records a text names; its module in `archives` reads the API.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from urllib.parse import unquote, urlsplit

from ..archives.doi import find_address
from ..errors import BadLink, RepoNotFound
from ..model import FetchKind, Repo, RepoRef
from .base import Provenance, Provider
from .hosted import HostedAt
from .hosts import RepositoryPeers

PUBLIC_RESOLVER = "https://doi.org"

_DOI = re.compile(r"10\.[0-9]{4,9}/[\w.;:()/+~-]{1,200}", re.ASCII)
_DOI_PREFIX = re.compile(r"(?:doi:|(?:https?://)?(?:dx\.|www\.)?doi\.org/)", re.IGNORECASE)
_SECRET = re.compile(r"//[^/?#]*@|[?&](?:access_|api_)?(?:token|key|private_link|password)=", re.IGNORECASE)
_TWICE = re.compile(r"[^/]*%(?:2F|3A)[^/]*", re.IGNORECASE)
_SCHEME = re.compile(r"^(https?):/+")  # proxies may join the slashes of a link's path
_CHARACTERS = 2000

DOI_START = r"(?:doi:|(?:https?:\/\/)?(?:dx\.|www\.)?doi\.org\/)?"
"""A JavaScript regular expression of what may precede a DOI."""


def doi_in(text: str, resolver: str = PUBLIC_RESOLVER) -> str:
    """Return the DOI that `text` is, without its prefix or resolver; empty if it is none."""
    if (path := path_below(resolver, text)) is not None:
        text = path
    elif found := _DOI_PREFIX.match(text):
        text = text[found.end() :]
    if not _DOI.fullmatch(text) or {".", ".."} & set(text.split("/")):
        return ""
    return text.rstrip("/")


def path_below(address: str, text: str) -> str | None:
    """Return what follows `address` in the URL `text`, with its query; None if it is not below it.

    http stands for https, and a host with `www.` for the one without.
    """
    try:
        parts, own = urlsplit(text), urlsplit(address)
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or _host(parts.netloc) != _host(own.netloc):
        return None
    prefix = own.path.rstrip("/") + "/"
    if not parts.path.startswith(prefix):
        return None
    path = parts.path.removeprefix(prefix)
    return f"{path}?{parts.query}" if parts.query else path


def _host(name: str) -> str:
    return name.lower().removeprefix("www.")


class RecordProvider(Provider):
    """Base of the providers of records; a record belongs to its archive, so a revision is always its own."""

    fetch = FetchKind.ARCHIVE

    def __init__(self, resolver: str = PUBLIC_RESOLVER, peers: RepositoryPeers | None = None) -> None:
        """`resolver` is the address of the DOI resolver. Raises ValueError for an invalid one."""
        self._asker = (peers or RepositoryPeers()).ask
        self._resolver = HostedAt(resolver).url("").rstrip("/")

    @abstractmethod
    def read(self, text: str) -> RepoRef | None:
        """Return the record that `text` names, not quoted, at its one address; None if a request is needed to know."""

    @abstractmethod
    async def find(self, ref: RepoRef) -> Repo:
        """Return the newest version of a record from `read`, or the version that it names. Raises UserError."""

    def parse(self, spec: str) -> RepoRef:
        text = plain_text(spec)
        if found := self.read(text):
            return found
        if doi := doi_in(text, self._resolver):
            return RepoRef(self.name, f"{self._resolver}/{doi}", "")
        raise BadLink(f"The link does not name a record of {self.display_name}.", self.link_hint)

    link_hint: str

    async def resolve(self, ref: RepoRef) -> Repo:
        return await self.find(await self._record(ref))

    async def _record(self, ref: RepoRef) -> RepoRef:
        doi = doi_in(ref.url, self._resolver) if path_below(self._resolver, ref.url) is not None else ""
        if not doi:
            return ref
        if found := self.read(await find_address(self._resolver, doi, self._asker)):
            return found
        raise RepoNotFound(f"This DOI does not lead to a record of {self.display_name}.", self.link_hint)

    async def find_revision(self, ref: RepoRef) -> str:
        return (await self.resolve(ref)).revision

    def known_provenance(self, repo: Repo) -> Provenance | None:
        return Provenance()

    async def find_provenance(self, repo: Repo) -> Provenance:
        return Provenance()


def unquoted(spec: str) -> str:
    """Return a spec without its quoting, which some badges have twice."""
    text = unquote(spec)
    return unquote(text) if _TWICE.fullmatch(text) else text


def plain_text(spec: str) -> str:
    """Return a spec as it was before quoting. Raises BadLink for one with a secret, or that no record can have."""
    text = _SCHEME.sub(r"\1://", unquoted(spec).strip()).strip("/")
    if _SECRET.search(text):
        raise BadLink("The link contains a user name, a password or a key.", "Remove it: links are public.")
    if len(text) > _CHARACTERS or not text.isprintable():
        raise BadLink("The link contains characters that no record has.", "Copy it again.")
    return text
