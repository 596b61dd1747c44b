"""Find out whether a commit is a repository's own: on one of its branches or tags.

Hosts store the commits of forks and unmerged pull requests together with the repository's, and serve each of them at
the repository's URL by its id. So this module fetches the history of the branches and tags and searches it. It fetches
only commits if the host supports partial clones. It caches the result and deletes the files. Runs in the binder.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import tempfile
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from weakref import WeakValueDictionary

from ..command import Captured, CommandTimedOut, OutputTooLarge, capture
from ..errors import RepoNotFound, RepoTooLarge, UserError
from ..git import Git, GitAccess, exceeds_limit, limit_files
from ..policy.match import FOREIGN
from .base import Provenance
from .hosts import RepositoryPeers
from .listing import Listing, list_refs

log = logging.getLogger(__name__)

_REFSPECS = ("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")
_FETCH = ("fetch", "-q", "--no-tags", "--no-write-fetch-head", "--filter=tree:0")
# one pack, so that the file size limit is the limit of the history; no redirects, so that only the URL that served the
# listing answers
_SETTINGS = ("-c", "transfer.unpackLimit=1", "-c", "http.followRedirects=false")
_ID_BYTES = 65  # of a line of `rev-list` in a repository with SHA-256
_MESSAGE_BYTES = 1 << 20
_OWN_COMMITS = 10_000
_TEXT_CHARACTERS = 64_000_000
_CONCURRENT_FETCHES = 3

_TOO_LARGE = (
    "The repository is too large to search its branches and tags for the commit, so no rule that names it applies; "
    "a link to a branch or tag needs no search."
)


@dataclass(frozen=True, slots=True)
class HistoryLimits:
    """Limits of the search for one commit."""

    fetch_seconds: float = 60
    pack_bytes: int = 200 << 20
    refs: int = 20_000
    commits: int = 500_000
    own_seconds: float = 24 * 3600
    """How long the result for a found commit stays valid."""
    too_large_seconds: float = 3600
    """How long a repository that exceeded a limit is not fetched again."""


@dataclass(frozen=True, slots=True)
class _History:
    """The commits on a repository's branches and tags at one time."""

    ids: frozenset[str]
    """The ids listed at that time. While the host lists the same ids, a commit not in `text` is foreign."""
    text: str
    """One commit id per line, with a newline before and after each; uses a tenth of a set's memory."""
    complete: bool
    until: float
    served: str

    def contains(self, commit: str) -> bool:
        return f"\n{commit}\n" in self.text


class _TooLarge(Exception):
    """The history exceeds a limit."""


class Histories:
    """Bounded cache of repositories' commits; it lives as long as the binder."""

    def __init__(
        self, access: GitAccess, limits: HistoryLimits = HistoryLimits(), peers: RepositoryPeers | None = None
    ) -> None:
        self._access = access
        self._peers = peers or RepositoryPeers()
        self._limits = limits
        self._own: OrderedDict[tuple[str, str], tuple[str, float]] = OrderedDict()
        self._histories: OrderedDict[str, _History] = OrderedDict()
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._slots = asyncio.Semaphore(_CONCURRENT_FETCHES)

    def remember(self, url: str, commit: str, served: str) -> Provenance:
        """Remember that `commit` belongs to the repository at `url`, which redirected to `served` unless empty."""
        self._own[url, commit] = (served, time.monotonic() + self._limits.own_seconds)
        self._own.move_to_end((url, commit))
        while len(self._own) > _OWN_COMMITS:
            self._own.popitem(last=False)
        return Provenance(served=served)

    def known(self, url: str, commit: str) -> Provenance | None:
        """Return the provenance of a commit found earlier on a branch or tag; None if the host must be queried."""
        served, until = self._own.get((url, commit), ("", 0.0))
        if until > time.monotonic():
            return Provenance(served=served)
        history = self._histories.get(url)
        if history is not None and history.until > time.monotonic() and history.contains(commit):
            return Provenance(served=history.served)
        return None

    async def find(self, url: str, commit: str) -> Provenance:
        """Return the provenance of `commit`; query the host if needed. Raises RepoNotFound or HostUnavailable."""
        lock = self._locks.setdefault(url, asyncio.Lock())
        async with lock:  # for many commits at the same time, the first call fetches the history for all
            if known := self.known(url, commit):
                return known
            try:
                listing = await self._peers.ask(url, lambda: list_refs(url, self._access))
            except RepoTooLarge:
                return Provenance(_TOO_LARGE)
            if commit in listing.ids:
                return self.remember(url, commit, listing.served)
            history = await self._history(url, listing)
        if history.contains(commit):
            return self.remember(url, commit, history.served)
        foreign_reason = FOREIGN if history.complete else _TOO_LARGE
        log.info("Commit %s is foreign to %s: %s", commit, url, foreign_reason)
        return Provenance(foreign_reason, listing.served)

    async def _history(self, url: str, listing: Listing) -> _History:
        """Return the history of the listed refs: the cached one if it is still valid, else a new one."""
        known, now = self._histories.get(url), time.monotonic()
        if known and known.until > now and (known.ids == listing.ids or not known.complete):
            return known
        try:
            async with self._slots:
                history = await self._fetch(url, listing)
        except _TooLarge:
            history = _History(listing.ids, "", False, now, listing.served)
        seconds = self._limits.own_seconds if history.complete else self._limits.too_large_seconds
        history = self._histories[url] = replace(history, until=time.monotonic() + seconds)
        self._histories.move_to_end(url)
        while sum(len(each.text) for each in self._histories.values()) > _TEXT_CHARACTERS:
            self._histories.popitem(last=False)
        return history

    async def _fetch(self, url: str, listing: Listing) -> _History:
        """Fetch the branches and tags and list their commits. Raises RepoNotFound or _TooLarge."""
        if len(listing.ids) > self._limits.refs:
            raise _TooLarge
        moved = Git(listing.served, self._access.without_tokens()) if listing.served else None
        git = await (moved or Git(url, self._access)).reach()
        async with _temporary_folder() as folder:
            await git.run("init", "-q", "--bare", cwd=folder)
            # a partial clone needs a named remote; git does not accept a path for it
            named = ("-c", f"remote.origin.url={git.url}")
            fetched = await self._run_limited(git, folder, *_SETTINGS, *named, *_FETCH, "--", "origin", *_REFSPECS)
            if fetched.code:
                raise self._failed(url, fetched, folder)
            listed = await self._run_limited(git, folder, "rev-list", "--all", f"--max-count={self._limits.commits}")
            if listed.code:
                raise self._failed(url, listed, folder)
        complete = listed.out.count("\n") < self._limits.commits
        return _History(listing.ids, f"\n{listed.out}", complete, 0, listing.served)

    async def _run_limited(self, git: Git, cwd: Path, *args: str) -> Captured:
        """Run `git <args>` within the limits of time, file size and output. Raises _TooLarge."""
        command = git.command(*args, cwd=cwd, timeout_seconds=self._limits.fetch_seconds)
        try:
            limited = limit_files(command, self._limits.pack_bytes)
            return await capture(limited, _MESSAGE_BYTES + self._limits.commits * _ID_BYTES)
        except (CommandTimedOut, OutputTooLarge):
            raise _TooLarge from None

    def _failed(self, url: str, ended: Captured, folder: Path) -> UserError | _TooLarge:
        """Return the reason for a failed command: the size limit, or an error that may be temporary."""
        if exceeds_limit(folder / "objects" / "pack", self._limits.pack_bytes):
            return _TooLarge()
        log.warning("Could not read the history of %s: %r", url, ended.err[-500:])
        return RepoNotFound(
            f"{url} did not send the history that is needed to find the link's commit.",
            "Try again in a minute, or name a branch or tag in the link.",
        )


@asynccontextmanager
async def _temporary_folder() -> AsyncGenerator[Path, None]:
    """Make a folder, and delete it in a thread: git writes a file for each ref."""
    folder = Path(tempfile.mkdtemp(prefix="history-"))
    try:
        yield folder
    finally:
        await asyncio.shield(asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True))
