"""Fetch the submodules of a checkout, and theirs, one by one, so that the log names the one that fails.

A URL that needs ssh keys is fetched by https instead. The repository chooses the URLs, so git contacts their servers
only at addresses that were checked. As with repo2docker, a build fails without one of its submodules: its files would
be missing without a word. Runs in the binder and in build pods.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

from ..command import CommandFailed
from ..errors import BuildFailed
from ..git import Git, https_url
from ..git_target import TargetRefused, find_target, follow_redirects, is_redirect

_MOST = 100
_NAME_CHARACTERS = 100
_NOT_ALLOWED = ("not allowed", "is not supported")


class Submodules:
    """The submodules of the checkout in one directory."""

    def __init__(self, git: Git, checkout: Path, deadline: float) -> None:
        self._git = git
        self._checkout = checkout
        self._deadline = deadline
        self.folders: list[Path] = []
        """The directories of the submodules fetched so far."""

    async def run(self) -> AsyncGenerator[str, None]:
        """Fetch all submodules and yield git's output. Raises BuildFailed or CommandTimedOut."""
        waiting = [self._checkout]
        while waiting:
            folder = waiting.pop(0)
            for path in await self._paths(folder):
                if len(self.folders) == _MOST:
                    raise BuildFailed(f"The repository has more than {_MOST} submodules.", "Use fewer of them.")
                async with aclosing(self._fetch(folder, path)) as lines:
                    async for line in lines:
                        yield line
                self.folders.append(folder / path)
                waiting.append(folder / path)

    async def _paths(self, folder: Path) -> list[str]:
        """Return the paths of the submodules of the checkout in `folder`, and prepare their URLs."""
        if not (folder / ".gitmodules").exists():
            return []
        await self._git.run("submodule", "init", cwd=folder)
        if not self._git.access.allow_local:  # else the user's own ssh keys may work
            await self._use_https(folder)
        status = await self._git.run("submodule", "status", cwd=folder)
        if status.code:
            raise BuildFailed("The repository's .gitmodules does not name all of its submodules.", "Correct it.")
        return [line[1:].split(" ", 1)[1] for line in status.out.splitlines() if line.startswith("-")]

    async def _urls(self, folder: Path) -> list[tuple[str, str]]:
        """Return the settings that name the URLs of the submodules of `folder`, with the URLs."""
        config = await self._git.run("config", "-z", "--get-regexp", r"^submodule\..*\.url$", cwd=folder)
        entries = (entry.partition("\n") for entry in config.out.split("\0"))
        return [(name, url) for name, _, url in entries if name]

    async def _use_https(self, folder: Path) -> bool:
        """Replace the ssh URLs of the submodules of `folder` by https; return whether there were any."""
        replaced = [(name, https) for name, url in await self._urls(folder) if (https := https_url(url))]
        for name, https in replaced:
            await self._git.run("config", name, https, cwd=folder)
        return bool(replaced)

    async def _reaching(self, folder: Path) -> Git:
        """Return git that may contact the servers of the submodules of `folder`. Raises BuildFailed."""
        rules, targets = self._git.access.rules, []
        for name, url in [] if rules.everywhere else await self._urls(folder):
            try:
                target = await find_target(url, rules)
            except TargetRefused:
                raise _not_allowed(_name_in(name)) from None
            except OSError:
                raise _not_fetched(_name_in(name)) from None
            if target.protocol == "ssh":  # which would need its address in a setting for each host
                raise _not_allowed(_name_in(name))
            targets.append(target)
        return replace(self._git, targets=tuple(targets))

    async def _follow_redirects(self, folder: Path) -> bool:
        """Replace the URLs of the submodules of `folder` that redirect by the URLs to which they do."""
        replaced = False
        for name, url in await self._urls(folder):
            try:
                served = await follow_redirects(url, self._git.access.rules)
            except TargetRefused:
                raise _not_allowed(_name_in(name)) from None
            except OSError:
                raise _not_fetched(_name_in(name)) from None
            if served.rstrip("/") != url.rstrip("/"):
                await self._git.run("config", name, served, cwd=folder)
                replaced = True
        return replaced

    async def _mend(self, folder: Path, error: CommandFailed) -> bool:
        """Replace URLs after a failed fetch; return whether another attempt makes sense."""
        if self._git.access.rules.everywhere:
            return await self._use_https(folder)
        return any(map(is_redirect, error.tail)) and await self._follow_redirects(folder)

    async def _fetch(self, folder: Path, path: str) -> AsyncGenerator[str, None]:
        for last in (False, True):
            seconds = self._deadline - time.monotonic()
            args = ("submodule", "update", "--depth", "1", "--", path)
            git = await self._reaching(folder)
            try:
                async with aclosing(git.stream(*args, cwd=folder, timeout_seconds=seconds)) as lines:
                    async for line in lines:
                        yield line
                return
            except CommandFailed as error:
                if last or not await self._mend(folder, error):
                    raise _failure(path, error) from None


def _name_in(setting: str) -> str:
    return setting.removeprefix("submodule.").removesuffix(".url")


def _failure(path: str, error: CommandFailed) -> BuildFailed:
    if any(words in said for said in error.tail for words in _NOT_ALLOWED):
        return _not_allowed(path)
    return _not_fetched(path)


def _not_allowed(name: str) -> BuildFailed:
    return BuildFailed(
        f"The repository's submodule `{_shown(name)}` has a URL that this binder does not allow.",
        "Use an https or http URL of a public server for each submodule.",
    )


def _not_fetched(name: str) -> BuildFailed:
    return BuildFailed(f"The repository's submodule `{_shown(name)}` could not be fetched.", "Check that it is public.")


def _shown(name: str) -> str:
    return "".join(each if each.isprintable() and each != "`" else "?" for each in name[:_NAME_CHARACTERS])
