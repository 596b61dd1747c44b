"""Fetch the files of a repository at one revision: a clone with its history and tags within limits, or an archive.

A clone holds the contents of one commit's files; git fetches those of older commits from the repository's public
address when they are needed. Runs in the binder and in build pods; `git` hardens git itself.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import assert_never

from ..command import CommandFailed, CommandTimedOut, OutputTooLarge, stream
from ..errors import RefNotFound, UserError
from ..git import Git, GitAccess, exceeds_limit, limit_files
from ..local.layer import LAYER_NAME
from ..model import FetchKind, Repo
from .archive import ArchiveCheckout
from .contents import ArchiveLimits
from .lfs import LfsFiles, LfsLimits
from .submodules import Submodules

_ALL_BRANCHES = "+refs/heads/*:refs/remotes/origin/*"
_BRANCH = "refs/heads/"

# git's messages when the server does not support this kind of fetch; another kind may work
_FETCH_UNSUPPORTED = ("unadvertised object", "does not support shallow", "couldn't find remote ref")
_NO_SUCH_COMMIT = ("not our ref", "no such remote ref")

# the files of a session's programs; a session's home is the repository's copy
_EXCLUDED = (
    *(LAYER_NAME, ".cache", ".config", ".conda", ".dask", ".ipynb_checkpoints", ".ipython", ".jupyter", ".local"),
    *(".npm", ".virtual_documents", ".bash_history", ".python_history", ".wget-hsts"),
)


@dataclass(frozen=True, slots=True)
class CheckoutLimits:
    """Limits of what a checkout holds in addition to the commit's own files."""

    history_bytes: int = 100 << 20
    """The size of the history. Servers that support partial clones send it without the contents of files."""
    history_seconds: float = 60
    lfs: LfsLimits = field(default_factory=LfsLimits)
    archive: ArchiveLimits = field(default_factory=ArchiveLimits)


def check_out(
    repo: Repo, into: Path, access: GitAccess, deadline: float, limits: CheckoutLimits | None = None
) -> AsyncGenerator[str, None]:
    """Fetch the files of `repo` into the new directory `into` and yield the log.

    `deadline` is on the monotonic clock. Raises RepoNotFound, RefNotFound, BuildFailed or CommandTimedOut, for archives
    also HostUnavailable, HostBusy and RepoTooLarge.
    """
    limits = limits or CheckoutLimits()
    match repo.fetch:
        case FetchKind.GIT:
            return _GitCheckout(repo, into, access, deadline).run(limits)
        case FetchKind.ARCHIVE:
            return ArchiveCheckout(repo, into, deadline, limits.archive).run()
        case _:
            assert_never(repo.fetch)


class _GitCheckout:
    """A clone at one commit, with its submodules and LFS files, in one directory."""

    def __init__(self, repo: Repo, into: Path, access: GitAccess, deadline: float) -> None:
        self._repo = repo
        self._into = into
        self._git = Git(repo.ref.url, access)
        self._deadline = deadline

    async def run(self, limits: CheckoutLimits) -> AsyncGenerator[str, None]:
        """Check out the commit and yield git's output. Raises as `check_out` does."""
        url, commit = self._repo.ref.url, self._repo.revision
        yield f"Fetching {url} at {commit}"
        self._git = await self._git.reach()
        self._into.mkdir(parents=True)
        for args in (
            ("init", "-q"),
            ("config", "remote.origin.url", url),  # so that `git pull` works in a session
            ("config", "remote.origin.fetch", _ALL_BRANCHES),
        ):
            await self._git.run(*args, cwd=self._into)
        exclude = self._into / ".git" / "info" / "exclude"
        exclude.parent.mkdir(exist_ok=True)
        exclude.write_text("".join(f"/{name}\n" for name in _EXCLUDED))
        for step in (self._fetch(), self._fetch_history(limits), self._switch()):
            async with aclosing(step) as lines:
                async for line in lines:
                    yield line
        # the repository chooses the URLs of its submodules and LFS files, so they are public
        public = self._git.without_token()
        submodules = Submodules(public, self._into, self._deadline)
        async with aclosing(submodules.run()) as lines:
            async for line in lines:
                yield line
        lfs = LfsFiles(public, self._deadline, limits.lfs)
        for folder in (self._into, *submodules.folders):
            async with aclosing(lfs.fetch(folder)) as lines:
                async for line in lines:
                    yield line
        if self._git.url != url:
            await self._git.run("config", "remote.origin.url", url, cwd=self._into)

    def _lines(self, *args: str) -> AsyncGenerator[str, None]:
        return self._git.stream(*args, cwd=self._into, timeout_seconds=self._deadline - time.monotonic())

    def _is_shallow(self) -> bool:
        return (self._into / ".git" / "shallow").exists()

    async def _follow_redirect(self) -> None:
        """Continue with the URL to which the server redirects, if it does and git may not follow by itself."""
        if self._git.follows_redirects:
            return
        asked = await self._git.run("ls-remote", "--", self._git.url, "HEAD", cwd=self._into)
        if asked.code and (moved := await self._git.redirected(asked.err)):
            self._git = moved
            await self._git.run("config", "remote.origin.url", moved.url, cwd=self._into)

    async def _fetch(self) -> AsyncGenerator[str, None]:
        """Fetch only the commit if the server supports it, else the ref, else all branches and tags."""
        await self._follow_redirect()
        url, commit = self._git.url, self._repo.revision
        shallow = ("--depth", "1", "--no-tags")
        for options, wanted in ((shallow, commit), (shallow, self._repo.ref.ref), (("--tags",), _ALL_BRANCHES)):
            deepen = options is not shallow and self._is_shallow()
            try:
                more = ("--unshallow",) if deepen else ()
                async with aclosing(self._lines("fetch", "--progress", *options, *more, "--", url, wanted)) as lines:
                    async for line in lines:
                        yield line
            except CommandFailed as error:
                output = "\n".join(error.tail)
                if any(words in output for words in _NO_SUCH_COMMIT):
                    raise self._no_commit() from None
                if not any(words in output for words in _FETCH_UNSUPPORTED):
                    raise self._git.read_error(output) from None
            if (await self._git.run("cat-file", "-e", f"{commit}^{{commit}}", cwd=self._into)).code == 0:
                return
        raise self._no_commit()

    async def _fetch_history(self, limits: CheckoutLimits) -> AsyncGenerator[str, None]:
        """Fetch the branches, tags and earlier commits, without the contents of files if the server can omit them."""
        yield "Fetching the history and the tags"
        deepen = ("--unshallow",) if self._is_shallow() else ()
        options = ("--progress", "--filter=blob:none", "--tags", *deepen)
        # one pack, so that the file size limit is the limit of the history; a partial clone needs a named remote
        args = ("-c", "transfer.unpackLimit=1", "fetch", *options, "--", "origin", _ALL_BRANCHES)
        seconds = min(limits.history_seconds, self._deadline - time.monotonic())
        command = self._git.command(*args, cwd=self._into, timeout_seconds=seconds)
        packs = self._into / ".git" / "objects" / "pack"
        try:
            async with aclosing(stream(limit_files(command, limits.history_bytes))) as lines:
                async for line in lines:
                    yield line
        except (CommandTimedOut, CommandFailed, OutputTooLarge) as error:
            if exceeds_limit(packs, limits.history_bytes):
                reason = f"is larger than {limits.history_bytes >> 20} MiB"
            elif isinstance(error, CommandTimedOut):
                reason = f"takes longer than {seconds:.0f} seconds to fetch"
            else:
                reason = "could not be fetched"
            for part in (*packs.glob("tmp_*"), *(self._into / ".git").glob("*.lock")):
                part.unlink()
            yield f"The history {reason}, so the clone has one commit and no tags: `git describe` finds no version."
        await self._git.run("pack-refs", "--all", cwd=self._into)  # each launch copies the clone; a ref is a file

    async def _switch(self) -> AsyncGenerator[str, None]:
        """Check the commit out, on the link's branch if the commit is its newest."""
        commit, branch = self._repo.revision, await self._branch()
        at = ("-b", branch, "--track", f"refs/remotes/origin/{branch}") if branch else ("--detach", commit)
        try:
            async with aclosing(self._lines("checkout", "-q", *at)) as lines:
                async for line in lines:
                    yield line
        except CommandFailed as error:
            raise self._git.read_error("\n".join(error.tail)) from None

    async def _branch(self) -> str:
        """Return the branch that the link names, if its newest commit is the revision; else ''."""
        ref = self._repo.ref.ref
        if ref == "HEAD":
            try:
                await self._git.run("remote", "set-head", "origin", "--auto", cwd=self._into)
            except UserError:
                return ""
            name = await self._git.run("symbolic-ref", "-q", "refs/remotes/origin/HEAD", cwd=self._into)
            ref = name.out.strip().removeprefix("refs/remotes/origin/")
        branch = ref.removeprefix(_BRANCH)
        newest = await self._git.run("rev-parse", "-q", "--verify", f"refs/remotes/origin/{branch}", cwd=self._into)
        return branch if newest.out.strip() == self._repo.revision and not branch.startswith("-") else ""

    def _no_commit(self) -> UserError:
        url, commit = self._repo.ref.url, self._repo.revision
        return RefNotFound(f"{url} has no commit `{commit}`.", "Check that it was pushed and is still on a branch.")
