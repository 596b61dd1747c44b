"""Any git repository by its address: `/v2/git/<quoted address>/<ref>`, the form BinderHub's git provider reads.

Both parts come from strangers, so both are checked against what is allowed before git sees them. Runs in the binder.
Form: https://mybinder.readthedocs.io/en/latest/howto/external_binder_setup.html
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches
from urllib.parse import unquote, urlsplit

from ..errors import BadLink, RefNotFound, UserError
from ..git import GitAccess, is_local
from ..model import FetchKind, Repo, RepoRef
from .base import Provenance, Provider, ProviderForm
from .history import Histories
from .listing import is_own_name, list_refs

_HOST = r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?"
_PATH = r"[\w.~+@=,/-]+"
_WEB = re.compile(rf"https?://(?:{_HOST}|\[[0-9A-Fa-f:]+\])(?::\d{{1,5}})?/{_PATH}", re.ASCII)
_SSH = re.compile(rf"ssh://(?:[A-Za-z0-9_][\w.-]*@)?{_HOST}(?::\d{{1,5}})?/{_PATH}", re.ASCII)
_SCP = re.compile(rf"[A-Za-z0-9_][\w.-]*@{_HOST}:(?![-:]){_PATH}", re.ASCII)
_LOCAL = re.compile(rf"(?:file://)?/{_PATH}")
_FORM_PATTERN = r"^(https?://[^\s/@]+/|ssh://[^\s/]+/|\w[\w.-]*@[\w.-]+:)."
"""What looks like an address to the landing page's form, for JavaScript; `GitProvider.parse` looks closely."""
_LOCAL_FORM_PATTERN = rf"{_FORM_PATTERN}|^(file://)?/."
"""The same where paths of this machine are repositories too."""
_REF = re.compile(r"(?!.*(?:\.\.|@\{|//|/\.|\.lock(?:/|$)))\w[\w./+@=#,!%-]*(?<![./])")
_FULL_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_SHORT_COMMIT = re.compile(r"(?=.*[0-9])[0-9a-f]{7,39}")
_DEFAULT_PORTS = {"http": ":80", "https": ":443", "ssh": ":22"}

_FORM = "Links look like /v2/git/https%3A%2F%2Fexample.org%2Frepo.git/HEAD."
_SHOWN_NAMES = 5


class GitProvider(Provider):
    """Repositories that git itself can read."""

    name = "git"
    display_name = "Git repository"
    fetch = FetchKind.GIT

    def __init__(self, allow_local: bool = False, timeout_seconds: float = 30) -> None:
        self.form = ProviderForm(
            label="Git repository URL",
            placeholder="https://github.com/org/repository",
            pattern=_LOCAL_FORM_PATTERN if allow_local else _FORM_PATTERN,
        )
        self._access = GitAccess(allow_local, timeout_seconds)
        self._histories = Histories(self._access)

    def parse(self, spec: str) -> RepoRef:
        quoted_url, _, quoted_ref = spec.partition("/")
        ref = unquote(quoted_ref).strip("/") or "HEAD"
        if len(ref) > 255 or not _REF.fullmatch(ref):
            raise BadLink("The link's branch, tag or commit is not a name git allows.", _FORM)
        return RepoRef(self.name, _checked(unquote(quoted_url), self._access), ref)

    async def find_revision(self, ref: RepoRef) -> str:
        if _FULL_COMMIT.fullmatch(ref.ref.lower()):
            return ref.ref.lower()  # whether it exists shows when it is fetched
        listing = await list_refs(ref.url, self._access, ref.ref)
        commits = listing.commits
        for name in (ref.ref, f"refs/heads/{ref.ref}", f"refs/tags/{ref.ref}"):
            if name in commits:
                if is_own_name(name):
                    self._histories.note(ref.url, commits[name], listing.served)
                return commits[name]
        raise _no_ref(ref, commits)

    def known_provenance(self, repo: Repo) -> Provenance | None:
        return self._histories.known(repo.ref.url, repo.revision)

    async def find_provenance(self, repo: Repo) -> Provenance:
        return await self._histories.find(repo.ref.url, repo.revision)


def _checked(url: str, access: GitAccess) -> str:
    """Return `url` in the one form policies match. Raises BadLink, which repeats nothing that may be a password."""
    url = url.rstrip("/") if len(url) < 2048 else ""
    scheme, separator, rest = url.partition("://")
    if separator and "@" in rest.partition("/")[0] and (scheme.lower() != "ssh" or ":" in rest.partition("@")[0]):
        raise BadLink("The repository's address holds a user name or password.", "Remove it: links are public.")
    if is_local(url) and not access.allow_local:
        raise BadLink("This binder reads repositories from the network only.", _FORM)
    forms = (_WEB, _SSH, _SCP, _LOCAL) if access.allow_local else (_WEB, _SSH, _SCP)
    url = scheme.lower() + separator + rest if separator else url
    if not any(form.fullmatch(url) for form in forms) or {"", ".", ".."} & set(_segments(url)):
        raise BadLink("The link holds no repository address this binder can read.", _FORM)
    return _canonical(url)


def _segments(url: str) -> list[str]:
    path = urlsplit(url).path if "://" in url else url.partition(":")[2] or url
    return path.removeprefix("/").split("/")


def _canonical(url: str) -> str:
    """Return `url` with its host in small letters and without the default port, so that rules cannot be dodged."""
    scheme, separator, rest = url.partition("://")
    if not separator or is_local(url):
        return url
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host.lower().removesuffix(_DEFAULT_PORTS[scheme])}{slash}{path}"


def _no_ref(ref: RepoRef, commits: Mapping[str, str]) -> UserError:
    if ref.ref == "HEAD":
        return RefNotFound(f"{ref.url} has no commits yet, or no default branch.", "Name a branch in the link.")
    if _SHORT_COMMIT.fullmatch(ref.ref):
        return RefNotFound(
            f"`{ref.ref}` is no branch or tag of {ref.url}, and looks like a shortened commit.",
            "Use the commit's full 40 characters.",
        )
    branches = [name.removeprefix("refs/heads/") for name in commits if name.startswith("refs/heads/")]
    tags = [name.removeprefix("refs/tags/") for name in commits if name.startswith("refs/tags/")]
    return RefNotFound(f"{ref.url} has no branch or tag `{ref.ref}`.", _suggestion(ref.ref, branches, tags))


def _suggestion(wanted: str, branches: list[str], tags: list[str]) -> str:
    close_tags = get_close_matches(wanted, tags, _SHOWN_NAMES)
    if branches and len(branches) <= _SHOWN_NAMES and not close_tags:
        return f"Its branches are: {', '.join(branches)}."
    close = get_close_matches(wanted, branches, _SHOWN_NAMES) + close_tags
    return f"The closest are: {', '.join(close[:_SHOWN_NAMES])}." if close else "Check its spelling in the repository."
