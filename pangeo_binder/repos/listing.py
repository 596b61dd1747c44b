"""List a repository's refs with their commits, and the URL that served them. Runs in the binder."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from ..command import Captured
from ..errors import RepoTooLarge
from ..git import Git, GitAccess, is_local
from .branches import Branches

LISTING_BYTES = 8 << 20
"""How much of a listing is read: about 100,000 refs."""
_MESSAGE_CHARACTERS = 16_384
"""How much of git's messages is read: a server may send any number of them."""
_OWN = ("refs/heads/", "refs/tags/")
_LENGTH, _PEELED = 4, "peeled:"
_SHORT_CHARACTERS = 16_384
# git follows redirects of its first request and prints the target; LC_ALL=C makes that message English
_REDIRECT = re.compile(r"^warning: redirecting to (https?://\S+)$", re.MULTILINE)
_branches = Branches()


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
    if ref and access.allow_local and is_local(url):
        name = ref if _is_full(ref) else f"refs/heads/{ref}"
        if commit := await _branches.find(url.removeprefix("file://"), name):
            return Listing({name: commit}, frozenset({commit}), "")
        with suppress(RepoTooLarge):
            answered = await git.ask_local(_request(ref), LISTING_BYTES)
            if not answered.code:
                return await _read(_answer, answered)
        # ls-remote says what is wrong; it also filters the names, reads bundles, and knows other kinds of ids
    listed = await git.run(*_command(ref), "--", url, *_patterns(ref), max_bytes=LISTING_BYTES)
    if listed.code and (moved := await git.redirected(listed.err[:_MESSAGE_CHARACTERS])):
        served = moved.url
        listed = await moved.run(*_command(ref), "--", served, *_patterns(ref), max_bytes=LISTING_BYTES)
    if listed.code:
        raise git.read_error(listed.err[:_MESSAGE_CHARACTERS])
    return await _read(partial(_listing, served=served), listed)


async def _read(read: Callable[[Captured], Listing], ended: Captured) -> Listing:
    """Return the listing in what git printed; a long one takes longer than others should wait."""
    return read(ended) if len(ended.out) < _SHORT_CHARACTERS else await asyncio.to_thread(read, ended)


def _listing(listed: Captured, served: str) -> Listing:
    commits, ids = {}, set()
    for line in listed.out.splitlines():
        commit, _, name = line.partition("\t")
        ids.add(commit)
        commits[name.removesuffix("^{}")] = commit  # an annotated tag's commit is on its later `^{}` line
    redirects = _REDIRECT.findall(listed.err[:_MESSAGE_CHARACTERS])
    return Listing(commits, frozenset(ids), redirects[-1] if redirects else served)


def _request(ref: str) -> bytes:
    """Return the request for what `ref` may mean: https://git-scm.com/docs/protocol-v2, `ls-refs`."""
    names = (ref,) if _is_full(ref) else tuple(f"{start}{ref}" for start in _OWN)
    wanted = b"".join(_packet(f"ref-prefix {name}") for name in names)
    return _packet("command=ls-refs") + b"0001" + _packet("peel") + wanted + b"0000"


def _packet(text: str) -> bytes:
    line = f"{text}\n".encode()
    return b"%04x" % (len(line) + _LENGTH) + line


def _answer(answered: Captured) -> Listing:
    """Return the listing in an answer, whose lines begin with their length: `<id> <name> peeled:<commit>`."""
    commits, ids = {}, set()
    for each in answered.out.split("\n")[:-1]:
        id_, name, *attributes = each[_LENGTH:].split()
        peeled = [word.removeprefix(_PEELED) for word in attributes if word.startswith(_PEELED)]
        commits[name] = peeled[0] if peeled else id_
        ids |= {id_, *peeled}
    return Listing(commits, frozenset(ids), "")


def _is_full(ref: str) -> bool:
    return ref == "HEAD" or ref.startswith("refs/")


def _command(ref: str) -> tuple[str, ...]:
    return ("ls-remote",) if _is_full(ref) else ("ls-remote", "--heads", "--tags")


def _patterns(ref: str) -> tuple[str, ...]:
    """Return the patterns of git-ls-remote for `ref`; it also prints other refs whose last parts are the same."""
    if ref == "HEAD":
        return ("HEAD",)
    return (ref, f"{ref}^{{}}") if ref else ()
