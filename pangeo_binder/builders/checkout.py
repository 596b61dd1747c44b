"""Fetches the files of exactly one commit, and its submodules. Runs in the binder; git's hardening is `git`'s."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path

from ..command import CommandFailed
from ..errors import BuildFailed, RefNotFound, UserError
from ..git import Git, GitAccess
from ..model import Repo

_ALL_BRANCHES = "+refs/heads/*:refs/remotes/origin/*"

# git's words for "ask for it in another way"
_NOT_THIS_WAY = ("unadvertised object", "does not support shallow", "couldn't find remote ref")
_NO_SUCH_COMMIT = ("not our ref", "no such remote ref")


class Checkout:
    """The files of one commit, in one directory, by a deadline on the monotonic clock."""

    def __init__(self, repo: Repo, into: Path, access: GitAccess, deadline: float) -> None:
        self._repo = repo
        self._into = into
        self._git = Git(repo.ref.url, access)
        self._deadline = deadline

    async def run(self) -> AsyncGenerator[str, None]:
        """Yield git's lines until the files are there.

        Raises RepoNotFound, RefNotFound, BuildFailed or CommandTimedOut.
        """
        url, commit = self._repo.ref.url, self._repo.revision
        yield f"Fetching {url} at {commit}"
        self._into.mkdir(parents=True)
        for args in (
            ("init", "-q"),
            ("config", "remote.origin.url", url),  # so that `git pull` works in a session
            ("config", "remote.origin.fetch", _ALL_BRANCHES),
        ):
            await self._git.run(*args, cwd=self._into)
        async with aclosing(self._fetch()) as fetching:
            async for line in fetching:
                yield line
        async with aclosing(self._lines("checkout", "-q", "--detach", commit)) as checking_out:
            async for line in checking_out:
                yield line
        if (self._into / ".gitmodules").exists():
            async with aclosing(self._submodules()) as updating:
                async for line in updating:
                    yield line

    def _lines(self, *args: str) -> AsyncGenerator[str, None]:
        return self._git.stream(*args, cwd=self._into, timeout_seconds=self._deadline - time.monotonic())

    async def _fetch(self) -> AsyncGenerator[str, None]:
        """Fetch the commit alone where the server lets us, else what its ref names, else everything."""
        url, commit = self._repo.ref.url, self._repo.revision
        shallow = ("--depth", "1", "--no-tags")
        for options, wanted in ((shallow, commit), (shallow, self._repo.ref.ref), (("--tags",), _ALL_BRANCHES)):
            deepen = options is not shallow and (self._into / ".git" / "shallow").exists()
            try:
                more = ("--unshallow",) if deepen else ()
                async with aclosing(self._lines("fetch", "--progress", *options, *more, "--", url, wanted)) as lines:
                    async for line in lines:
                        yield line
            except CommandFailed as error:
                said = "\n".join(error.tail)
                if any(words in said for words in _NO_SUCH_COMMIT):
                    raise self._no_commit() from None
                if not any(words in said for words in _NOT_THIS_WAY):
                    raise self._git.read_error(said) from None
            if (await self._git.run("cat-file", "-e", f"{commit}^{{commit}}", cwd=self._into)).code == 0:
                return
        raise self._no_commit()

    def _no_commit(self) -> UserError:
        url, commit = self._repo.ref.url, self._repo.revision
        return RefNotFound(f"{url} has no commit `{commit}`.", "Was it pushed, and is it still on a branch?")

    async def _submodules(self) -> AsyncGenerator[str, None]:
        try:
            update = self._lines("submodule", "update", "--init", "--recursive", "--depth", "1")
            async with aclosing(update) as lines:
                async for line in lines:
                    yield line
        except CommandFailed as error:
            if any("not allowed" in line for line in error.tail):
                raise BuildFailed(
                    "One of the repository's submodules is at an address this binder does not read.",
                    "Submodules are fetched over https, http and ssh.",
                ) from None
            raise BuildFailed("One of the repository's submodules could not be fetched.", "Is it public?") from None
