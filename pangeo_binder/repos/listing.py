"""List a repository's refs with their commits, and the URL that served them. Runs in the binder."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass

from ..command import Captured
from ..git import Git, GitAccess

LISTING_BYTES = 8 << 20
"""How much of a listing is read: about 100,000 refs."""
_MESSAGE_CHARACTERS = 16_384
"""How much of git's messages is read: a server may send any number of them."""
_OWN = ("refs/heads/", "refs/tags/")
# git follows redirects of its first request and prints the target; LC_ALL=C makes that message English
_REDIRECT = re.compile(r"^warning: redirecting to (https?://\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Listing:
    """The refs that a host lists for a repository."""

    commits: Mapping[str, str]
    """Name → commit; an annotated tag maps to its commit, not to its tag object."""
    ids: frozenset[str]
    """The ids of all listed commits and tag objects."""
    served: str
    """The URL at which redirects ended; empty if there were none."""


def is_own_name(name: str) -> bool:
    """Return whether only users with write access to the repository can set the full ref `name`.

    Anybody can set other refs by opening a request: `refs/pull/1/head`, `refs/merge-requests/1/head`, `refs/changes/…`.
    """
    return name == "HEAD" or name.startswith(_OWN)


async def list_refs(url: str, access: GitAccess, ref: str = "") -> Listing:
    """Return the refs of the repository that may be meant by `ref`; without it, all branches and tags.

    Raises RepoNotFound, HostUnavailable, or RepoTooLarge above `LISTING_BYTES`.
    """
    git = await Git(url, access).reach()
    served = ""
    listed = await git.run(*_command(ref), "--", url, *_patterns(ref), max_bytes=LISTING_BYTES)
    if listed.code and (moved := await git.redirected(listed.err[:_MESSAGE_CHARACTERS])):
        served = moved.url
        listed = await moved.run(*_command(ref), "--", served, *_patterns(ref), max_bytes=LISTING_BYTES)
    if listed.code:
        raise git.read_error(listed.err[:_MESSAGE_CHARACTERS])
    return await asyncio.to_thread(_listing, listed, served)


def _listing(listed: Captured, served: str) -> Listing:
    commits, ids = {}, set()
    for line in listed.out.splitlines():
        commit, _, name = line.partition("\t")
        ids.add(commit)
        commits[name.removesuffix("^{}")] = commit  # an annotated tag's commit is on its later `^{}` line
    redirects = _REDIRECT.findall(listed.err[:_MESSAGE_CHARACTERS])
    return Listing(commits, frozenset(ids), redirects[-1] if redirects else served)


def _command(ref: str) -> tuple[str, ...]:
    return ("ls-remote",) if ref == "HEAD" or ref.startswith("refs/") else ("ls-remote", "--heads", "--tags")


def _patterns(ref: str) -> tuple[str, ...]:
    """Return the patterns of git-ls-remote for `ref`; it also prints other refs whose last parts are the same."""
    if ref == "HEAD":
        return ("HEAD",)
    return (ref, f"{ref}^{{}}") if ref else ()
