"""Finds out whether a commit is a repository's own: on one of its branches or tags.

Hosts keep the commits of forks and of unmerged pull requests in one store with the repository's, and give them out
under its address to whoever knows their id. So the history of the branches and tags is fetched, the commits alone where
the host can leave files out, and looked through. What was found is remembered; the fetched files are not kept. Runs in
the binder.
"""

from __future__ import annotations

import asyncio
import logging
import tempfile
import time
from collections import OrderedDict
from dataclasses import dataclass, replace
from pathlib import Path
from weakref import WeakValueDictionary

from ..command import Captured, CommandTimedOut, capture
from ..errors import RepoNotFound, UserError
from ..git import Git, GitAccess
from ..policy.match import FOREIGN
from .base import Provenance
from .listing import Listing, list_refs

log = logging.getLogger(__name__)

_MIRRORED = ("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")
_FETCH = ("fetch", "-q", "--no-tags", "--no-write-fetch-head", "--filter=tree:0")
# one pack, so that the limit of a file's size is that of the history; where the listing came from, or nowhere
_SETTINGS = ("-c", "transfer.unpackLimit=1", "-c", "http.followRedirects=false")
_BOUNDED = 'ulimit -f "$0" && exec "$@"'
_BLOCK_BYTES = 512  # the unit of `ulimit -f` in POSIX
_OWN_COMMITS = 10_000
_TEXT_CHARACTERS = 64_000_000
_FETCHES_AT_ONCE = 3

_TOO_LARGE = (
    "The repository is too large to look for the commit on its branches and tags, so no rule that names it counts; "
    "a link to a branch or tag needs no look."
)


@dataclass(frozen=True, slots=True)
class HistoryLimits:
    """How far the search for one commit goes."""

    fetch_seconds: float = 60
    pack_bytes: int = 200 << 20
    refs: int = 20_000
    commits: int = 500_000
    own_seconds: float = 24 * 3600
    """How long a commit that was found is the repository's own without another look."""
    too_large_seconds: float = 3600
    """How long a repository that went over a limit is not fetched again."""


@dataclass(frozen=True, slots=True)
class _History:
    """The commits that were on a repository's branches and tags."""

    ids: frozenset[str]
    """What was listed then: while the same is listed, what is not in it is not the repository's."""
    text: str
    """One commit a line, with a newline before and after each: a tenth of what a set would take."""
    whole: bool
    until: float
    served: str

    def holds(self, commit: str) -> bool:
        return f"\n{commit}\n" in self.text


class _TooLarge(Exception):
    """A limit was reached."""


class Histories:
    """What is known of repositories' commits, for the life of the binder; a bounded amount."""

    def __init__(self, access: GitAccess, limits: HistoryLimits = HistoryLimits()) -> None:
        self._access = access
        self._limits = limits
        self._own: OrderedDict[tuple[str, str], tuple[str, float]] = OrderedDict()
        self._histories: OrderedDict[str, _History] = OrderedDict()
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._slots = asyncio.Semaphore(_FETCHES_AT_ONCE)

    def note(self, url: str, commit: str, served: str) -> Provenance:
        """Remember that `commit` is the own of the repository at `url`, which `served` answered for."""
        self._own[url, commit] = (served, time.monotonic() + self._limits.own_seconds)
        self._own.move_to_end((url, commit))
        while len(self._own) > _OWN_COMMITS:
            self._own.popitem(last=False)
        return Provenance(served=served)

    def known(self, url: str, commit: str) -> Provenance | None:
        """Return the provenance of a commit that was seen on a branch or tag; None where that has to be asked."""
        served, until = self._own.get((url, commit), ("", 0.0))
        if until > time.monotonic():
            return Provenance(served=served)
        history = self._histories.get(url)
        if history is not None and history.until > time.monotonic() and history.holds(commit):
            return Provenance(served=history.served)
        return None

    async def find(self, url: str, commit: str) -> Provenance:
        """Return the provenance of `commit`, asking the host as far as needed. Raises RepoNotFound."""
        lock = self._locks.setdefault(url, asyncio.Lock())
        async with lock:  # of many commits at once, the first brings the history for all
            if known := self.known(url, commit):
                return known
            listing = await list_refs(url, self._access)
            if commit in listing.ids:
                return self.note(url, commit, listing.served)
            history = await self._history(url, listing)
        if history.holds(commit):
            return self.note(url, commit, history.served)
        foreign_reason = FOREIGN if history.whole else _TOO_LARGE
        log.info("Commit %s at %s does not count as its own: %s", commit, url, foreign_reason)
        return Provenance(foreign_reason, listing.served)

    async def _history(self, url: str, listing: Listing) -> _History:
        """Return the history of what is listed: the one remembered where it is still that, or a new one."""
        known, now = self._histories.get(url), time.monotonic()
        if known and known.until > now and (known.ids == listing.ids or not known.whole):
            return known
        try:
            async with self._slots:
                history = await self._fetched(url, listing)
        except _TooLarge:
            history = _History(listing.ids, "", False, now, listing.served)
        seconds = self._limits.own_seconds if history.whole else self._limits.too_large_seconds
        history = self._histories[url] = replace(history, until=time.monotonic() + seconds)
        self._histories.move_to_end(url)
        while sum(len(each.text) for each in self._histories.values()) > _TEXT_CHARACTERS:
            self._histories.popitem(last=False)
        return history

    async def _fetched(self, url: str, listing: Listing) -> _History:
        """Fetch what the branches and tags hold and read its commits. Raises RepoNotFound or _TooLarge."""
        if len(listing.ids) > self._limits.refs:
            raise _TooLarge
        git = Git(listing.served or url, self._access)
        with tempfile.TemporaryDirectory(prefix="history-", ignore_cleanup_errors=True) as name:
            await git.run("init", "-q", "--bare", cwd=Path(name))
            # git wants a name for where files were left out, and takes no path for one
            named = ("-c", f"remote.origin.url={git.url}")
            fetched = await self._bounded(git, Path(name), *_SETTINGS, *named, *_FETCH, "--", "origin", *_MIRRORED)
            if fetched.code:
                raise self._failed(url, fetched, Path(name))
            asked = ("rev-list", "--all", f"--max-count={self._limits.commits}")
            listed = await self._bounded(git, Path(name), *asked)
            if listed.code:
                raise self._failed(url, listed, Path(name))
        whole = listed.out.count("\n") < self._limits.commits
        return _History(listing.ids, f"\n{listed.out}", whole, 0, listing.served)

    async def _bounded(self, git: Git, cwd: Path, *args: str) -> Captured:
        """Run `git <args>` with no more time and no larger file than the limits say. Raises _TooLarge."""
        command = git.command(*args, cwd=cwd, timeout_seconds=self._limits.fetch_seconds)
        blocks = str(self._limits.pack_bytes // _BLOCK_BYTES)
        try:
            return await capture(replace(command, argv=("sh", "-c", _BOUNDED, blocks, *command.argv)))
        except CommandTimedOut:
            raise _TooLarge from None

    def _failed(self, url: str, ended: Captured, folder: Path) -> UserError | _TooLarge:
        """Return what a command that ended by itself failed by: its size, or anything that may pass."""
        parts = (folder / "objects" / "pack").glob("tmp_*")
        largest = max((path.stat().st_size for path in parts), default=0)
        if largest >= self._limits.pack_bytes // _BLOCK_BYTES * _BLOCK_BYTES:
            return _TooLarge()
        log.warning("The history of %s was not read: %r", url, ended.err[-500:])
        return RepoNotFound(
            f"{url} did not give the history to find the link's commit in.",
            "Try again in a minute, or name a branch or tag in the link.",
        )
