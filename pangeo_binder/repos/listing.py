"""List a repository's refs with their commits, and the URL that served them. Runs in the binder."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from ..git import Git, GitAccess

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
    """Return the refs needed to resolve `ref`: only itself if it is `HEAD` or a full ref, else all branches and tags.

    Raises RepoNotFound.
    """
    git = Git(url, access)
    listed = await git.run(*_command(ref), "--", url, *_pattern(ref))
    if listed.code:
        raise git.read_error(listed.err)
    redirects = _REDIRECT.findall(listed.err)
    commits, ids = {}, set()
    for line in listed.out.splitlines():
        commit, _, name = line.partition("\t")
        ids.add(commit)
        commits[name.removesuffix("^{}")] = commit  # an annotated tag's commit is on its later `^{}` line
    return Listing(commits, frozenset(ids), redirects[-1] if redirects else "")


def _command(ref: str) -> tuple[str, ...]:
    return ("ls-remote",) if _pattern(ref) else ("ls-remote", "--heads", "--tags")


def _pattern(ref: str) -> tuple[str, ...]:
    if ref == "HEAD":
        return ("HEAD",)
    return (ref, f"{ref}^{{}}") if ref.startswith("refs/") else ()
