"""Asks a repository's host which names stand for which commits, and which address answered. Runs in the binder."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from ..git import Git, GitAccess

_OWN = ("refs/heads/", "refs/tags/")
# git follows redirects of its first request, and says where they led; LC_ALL=C makes it say so in English
_LED_TO = re.compile(r"^warning: redirecting to (https?://\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Listing:
    """What a host lists of a repository."""

    commits: Mapping[str, str]
    """Name → commit; an annotated tag's own object is not in it."""
    ids: frozenset[str]
    """Every commit and tag object listed."""
    served: str
    """The address at which redirects ended; empty where there were none."""


def is_own_name(name: str) -> bool:
    """Return whether a full ref name is one that only who may write to the repository can set.

    Others are made by strangers' requests: `refs/pull/1/head`, `refs/merge-requests/1/head`, `refs/changes/…`.
    """
    return name == "HEAD" or name.startswith(_OWN)


async def list_refs(url: str, access: GitAccess, ref: str = "") -> Listing:
    """Return what answers `ref`, asking for no more than needed; all branches and tags where it is empty or a name.

    Raises RepoNotFound.
    """
    git = Git(url, access)
    listed = await git.run(*_question(ref), "--", url, *_pattern(ref))
    if listed.code:
        raise git.read_error(listed.err)
    led_to = _LED_TO.findall(listed.err)
    commits, ids = {}, set()
    for line in listed.out.splitlines():
        commit, _, name = line.partition("\t")
        ids.add(commit)
        commits[name.removesuffix("^{}")] = commit  # an annotated tag's commit is on its `^{}` line, which comes later
    return Listing(commits, frozenset(ids), led_to[-1] if led_to else "")


def _question(ref: str) -> tuple[str, ...]:
    return ("ls-remote",) if _pattern(ref) else ("ls-remote", "--heads", "--tags")


def _pattern(ref: str) -> tuple[str, ...]:
    if ref == "HEAD":
        return ("HEAD",)
    return (ref, f"{ref}^{{}}") if ref.startswith("refs/") else ()
