"""Repositories that git reads: the base of their kinds, and any repository by its URL, `/v2/git/<quoted URL>/<ref>`.

Links are untrusted input, so their parts are validated before they reach git. Runs in the binder.
Form: https://mybinder.readthedocs.io/en/latest/howto/external_binder_setup.html
"""

from __future__ import annotations

import asyncio
import logging
import re
from dataclasses import replace
from pathlib import Path
from typing import ClassVar
from urllib.parse import unquote, urlsplit

from ..addresses import PUBLIC, AddressRules
from ..errors import BadLink, HostBusy, HostUnavailable, RefNotFound, RepoTooLarge, UserError
from ..git import Git, GitAccess, is_local
from ..git_token import TokenFiles, no_token
from ..hosts import HOSTS
from ..model import FetchKind, Repo, RepoRef
from ..policy.address import address_of
from .base import Provenance, Provider, ProviderForm
from .history import Histories
from .hosts import RepositoryPeers
from .listing import is_own_name, list_refs
from .suggestion import suggest

log = logging.getLogger(__name__)

_HOST = r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?"
_PATH = r"[\w.~+@=,/-]+"
_WEB = re.compile(rf"https?://(?:{_HOST}|\[[0-9A-Fa-f:]+\])(?::\d{{1,5}})?/{_PATH}", re.ASCII)
_SSH = re.compile(rf"ssh://(?:[A-Za-z0-9_][\w.-]*@)?{_HOST}(?::\d{{1,5}})?/{_PATH}", re.ASCII)
_SCP = re.compile(rf"[A-Za-z0-9_][\w.-]*@{_HOST}:(?![-:]){_PATH}", re.ASCII)
_LOCAL = re.compile(rf"(?:file://)?/{_PATH}")
_FORM_PATTERN = r"^(https?://[^\s/@]+/|ssh://[^\s/]+/|\w[\w.-]*@[\w.-]+:)."
"""A loose JavaScript check of the URL for the landing page's form; `GitProvider.parse` validates it fully."""
_LOCAL_FORM_PATTERN = rf"{_FORM_PATTERN}|^(file://)?/."
"""The same check if paths of this machine are also allowed."""
_REF = re.compile(r"(?!.*(?:\.\.|@\{|//|/\.|\.lock(?:/|$)))\w[\w./+@=#,!%-]*(?<![./])")
FULL_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
"""The form of a full commit id."""
_SHORT_COMMIT = re.compile(r"[0-9a-f]{7,39}")
_TWICE = re.compile(r"%(?:2F|3A)", re.IGNORECASE)
"""A slash or colon that is still quoted: some badges are quoted twice."""
_FULL_ID = "Use the full commit id of 40 characters, or a branch or tag."
_DEFAULT_PORTS = {"http": ":80", "https": ":443", "ssh": ":22"}

_LINK_HINT = "Links look like /v2/git/https%3A%2F%2Fexample.org%2Frepo.git/HEAD."


class GitRefs(Provider):
    """A kind of repositories that git reads. A driver implements `parse`."""

    fetch = FetchKind.GIT
    link_hint: ClassVar[str]
    """A sentence that shows a valid link of this kind."""

    def __init__(self, access: GitAccess, peers: RepositoryPeers | None = None) -> None:
        self._access = access
        self._peers = peers or RepositoryPeers()
        self._histories = Histories(access, peers=self._peers)

    def read_ref(self, quoted: str) -> str:
        """Return the ref that a link's quoted last part names, or `HEAD` if it is empty. Raises BadLink."""
        ref = unquote(quoted)
        ref = (unquote(ref) if _TWICE.search(ref) else ref).strip("/") or "HEAD"
        if len(ref) > 255 or not _REF.fullmatch(ref):
            raise BadLink("The link's branch, tag or commit is not a valid git name.", self.link_hint)
        return ref

    async def find_revision(self, ref: RepoRef) -> str:
        if FULL_COMMIT.fullmatch(ref.ref.lower()):
            return ref.ref.lower()  # the fetch reports a commit that does not exist
        listing = await self._peers.ask(ref.url, lambda: list_refs(ref.url, self._access, ref.ref))
        commits = listing.commits
        for name in (ref.ref, f"refs/heads/{ref.ref}", f"refs/tags/{ref.ref}"):
            if name in commits:
                if is_own_name(name):
                    self._histories.remember(ref.url, commits[name], listing.served)
                return commits[name]
        if commit := await self._full_commit(ref):
            return commit
        raise await self._no_ref(ref)

    async def find_commit(self, ref: RepoRef) -> str:
        """Return the full id of the one commit whose id begins with `ref.ref`; empty if its host knows no such one.

        A driver whose host can look that up overrides this. Raises HostBusy or HostUnavailable if it cannot now.
        """
        raise HostUnavailable("Git servers do not look up short commit ids.", _FULL_ID)

    async def _full_commit(self, ref: RepoRef) -> str:
        """Return the full id of a short commit id; empty for any other ref. Raises RefNotFound if there is none."""
        short = ref.ref.lower()
        if not _SHORT_COMMIT.fullmatch(short):
            return ""
        begin = f"{ref.url} has no branch or tag `{ref.ref}`"
        try:
            commit = await self.find_commit(replace(ref, ref=short))
        except (HostBusy, HostUnavailable):
            if short.isalpha():
                return ""  # a word, such as `defaced`, rather than an id
            raise RefNotFound(f"{begin}, which looks like a short commit id.", _FULL_ID) from None
        if FULL_COMMIT.fullmatch(commit) and commit.startswith(short):
            return commit
        if commit:
            log.warning("The host of %s answered for the commit %s with another one", ref.url, short)
        if short.isalpha():
            return ""
        raise RefNotFound(f"{begin}, and not exactly one commit whose id begins with it.", _FULL_ID)

    async def _no_ref(self, ref: RepoRef) -> UserError:
        if ref.ref == "HEAD":
            return RefNotFound(f"{ref.url} has no commits yet, or no default branch.", "Name a branch in the link.")
        if self._access.token_files(ref.url):  # the person may not be allowed to launch it
            return RefNotFound(f"{ref.url} has no branch or tag `{ref.ref}`.", "Check the name in the repository.")
        try:
            listing = await self._peers.ask(ref.url, lambda: list_refs(ref.url, self._access))
            hint = await asyncio.to_thread(suggest, ref.ref, listing.commits)
        except RepoTooLarge:
            hint = "Check the name in the repository."
        return RefNotFound(f"{ref.url} has no branch or tag `{ref.ref}`.", hint)

    def known_provenance(self, repo: Repo) -> Provenance | None:
        return self._histories.known(repo.ref.url, repo.revision)

    async def find_provenance(self, repo: Repo) -> Provenance:
        return await self._histories.find(repo.ref.url, repo.revision)


class GitProvider(GitRefs):
    """Provider of repositories by their URL, the form of BinderHub's git provider."""

    name = "git"
    display_name = "Git repository"
    link_hint = _LINK_HINT

    def __init__(
        self,
        allow_local: bool = False,
        addresses: AddressRules = PUBLIC,
        timeout_seconds: float = 30,
        peers: RepositoryPeers | None = None,
        token_files: TokenFiles = no_token,
    ) -> None:
        super().__init__(GitAccess(allow_local, timeout_seconds, addresses, token_files), peers)
        self.form = ProviderForm(
            label="Git repository URL",
            placeholder="https://github.com/org/repository",
            pattern=_LOCAL_FORM_PATTERN if allow_local else _FORM_PATTERN,
        )

    def parse(self, spec: str) -> RepoRef:
        quoted_url, _, quoted_ref = spec.partition("/")
        ref = self.read_ref(quoted_ref)
        url = unquote(quoted_url)
        url = unquote(url) if "://" not in url and _TWICE.search(url) else url
        return RepoRef(self.name, validate_url(url, self._access), ref)

    async def find_commit(self, ref: RepoRef) -> str:
        if not is_local(ref.url):
            return await super().find_commit(ref)
        folder = Path(ref.url.removeprefix("file://"))
        if not folder.is_dir():
            return ""  # a bundle
        return await Git(ref.url, self._access).find_commit(ref.ref, folder)


def validate_url(url: str, access: GitAccess) -> str:
    """Return `url` in the form that policies match. Raises BadLink, which never repeats a part of the URL."""
    url = url.rstrip("/") if len(url) < 2048 else ""
    scheme, separator, rest = url.partition("://")
    if separator and "@" in rest.partition("/")[0] and (scheme.lower() != "ssh" or ":" in rest.partition("@")[0]):
        raise BadLink("The repository URL contains a user name or password.", "Remove it: links are public.")
    if is_local(url) and not access.allow_local:
        raise BadLink("This binder does not allow repositories on its own machine.", _LINK_HINT)
    forms = (_WEB, _SSH, _SCP, _LOCAL) if access.allow_local else (_WEB, _SSH, _SCP)
    url = scheme.lower() + separator + rest if separator else url
    if not any(form.fullmatch(url) for form in forms) or {"", ".", ".."} & set(_segments(url)):
        raise BadLink("The link does not contain a valid repository URL.", _LINK_HINT)
    if address_of(url).host == HOSTS["gist"].name:
        # its git server serves a gist by its id alone, so a rule that names a user could be evaded or misused
        raise BadLink("A gist has a link of its own.", "Write /v2/gist/user/id.")
    return _canonical(url)


def _segments(url: str) -> list[str]:
    path = urlsplit(url).path if "://" in url else url.partition(":")[2] or url
    return path.removeprefix("/").split("/")


def _canonical(url: str) -> str:
    """Return `url` with a lower-case host and without the default port, so that no spelling evades a rule."""
    scheme, separator, rest = url.partition("://")
    if not separator or is_local(url):
        return url
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host.lower().removesuffix(_DEFAULT_PORTS[scheme])}{slash}{path}"
