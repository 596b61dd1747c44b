"""Previews of notebooks while their environment is built: fetches one file of the commit and renders it as HTML.

Only for public repositories that this binder builds at that moment, so that a preview reads nothing that a launch would
not.
It does not wait for the build's own checkout, which on Kubernetes is in another pod. Runs in the binder; git and the
conversion (`notebook_html`) are processes under limits.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

from .. import trace
from ..command import Command, CommandFailed, CommandTimedOut, OutputTooLarge, capture, inherited, stream
from ..errors import UserError
from ..git import Git, GitAccess, limit_files
from ..model import FetchKind, Repo, RepoRef
from .builds import SharedBuilds


class NoPreview(UserError):
    """There is no preview of a file."""

    status, reason = 404, "no_preview"


@dataclass(frozen=True, slots=True)
class PreviewLimits:
    """Limits of previews."""

    notebook_bytes: int = 4 << 20
    fetched_bytes: int = 64 << 20
    """The largest pack that a fetch may write: hosts without partial clones send all files of the commit."""
    html_bytes: int = 8 << 20
    cached_bytes: int = 32 << 20
    seconds: float = 20
    """For the fetch, and for the conversion."""
    memory_bytes: int = 2 << 30
    at_once: int = 2
    waiting: int = 20


class Previews:
    """The previews of one binder."""

    def __init__(self, builds: SharedBuilds, access: GitAccess, limits: PreviewLimits | None = None) -> None:
        # the policy is not asked who may see a preview, so it is of a public repository
        self._builds, self._access, self._limits = builds, access.without_tokens(), limits or PreviewLimits()
        self._cache: OrderedDict[tuple[str, str, str], str] = OrderedDict()
        self._tasks: dict[tuple[str, str, str], asyncio.Task[str]] = {}
        self._slots = asyncio.Semaphore(self._limits.at_once)

    async def notebook(self, ref: RepoRef, path: str) -> str:
        """Return the notebook at `path` of the repository as HTML without scripts. Raises NoPreview."""
        repo = self._builds.building(ref)
        if repo is None or repo.fetch is not FetchKind.GIT:
            raise NoPreview("There is no build of this repository to show a file of.", "Open its launch link.")
        key = (repo.ref.url, repo.revision, path)
        if key in self._cache:
            self._cache.move_to_end(key)
            return self._cache[key]
        if key not in self._tasks:
            if len(self._tasks) >= self._limits.waiting:
                raise NoPreview("This binder makes too many previews at the moment.", "The launch itself continues.")
            self._tasks[key] = asyncio.create_task(self._make(repo, path), context=trace.shared())
            self._tasks[key].add_done_callback(lambda task: self._keep(key, task))
        try:
            return await asyncio.shield(self._tasks[key])
        except NoPreview as error:  # a new one for each follower of the task
            raise NoPreview(error.message, error.hint) from None

    async def close(self) -> None:
        """End all previews with their processes."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _keep(self, key: tuple[str, str, str], task: asyncio.Task[str]) -> None:
        del self._tasks[key]
        if task.cancelled() or task.exception() is not None:
            return
        self._cache[key] = task.result()
        while sum(map(len, self._cache.values())) > self._limits.cached_bytes:
            self._cache.popitem(last=False)

    async def _make(self, repo: Repo, path: str) -> str:
        async with self._slots:
            try:
                with tempfile.TemporaryDirectory(prefix="preview-", ignore_cleanup_errors=True) as folder:
                    return await self._convert(await self._fetch(repo, path, Path(folder)))
            except (CommandFailed, CommandTimedOut, OutputTooLarge, UserError):
                raise NoPreview(
                    f"There is no preview of {path}.", "It is missing, too large, or not a notebook."
                ) from None

    async def _fetch(self, repo: Repo, path: str, folder: Path) -> Path:
        """Fetch the file into `folder`, without the repository's other files if its host supports that."""
        git, limits = await Git(repo.ref.url, self._access).reach(), self._limits
        await git.run("init", "-q", "--bare", cwd=folder)
        await git.run("config", "remote.origin.url", repo.ref.url, cwd=folder)
        fetch = ("-c", "transfer.unpackLimit=1", "fetch", "-q", "--depth=1", "--filter=blob:none", "--no-tags")
        command = git.command(*fetch, "--", "origin", repo.revision, cwd=folder, timeout_seconds=limits.seconds)
        async for _ in stream(limit_files(command, limits.fetched_bytes)):
            pass
        read = git.command("cat-file", "blob", f"{repo.revision}:{path}", cwd=folder, timeout_seconds=limits.seconds)
        found = await capture(limit_files(read, limits.fetched_bytes), limits.notebook_bytes)
        if found.code:
            raise CommandFailed(found.code, ())
        notebook = folder / "notebook.ipynb"
        notebook.write_text(found.out, encoding="utf-8")
        return notebook

    async def _convert(self, notebook: Path) -> str:
        argv = (sys.executable, "-I", "-m", f"{__package__}.notebook_html", str(notebook))
        env = inherited() | {"HOME": os.devnull, "PYTHONIOENCODING": "utf-8"}
        limits = self._limits
        command = Command(argv, env, notebook.parent, limits.seconds, memory_bytes=limits.memory_bytes)
        converted = await capture(command, limits.html_bytes)
        if converted.code:
            raise CommandFailed(converted.code, ())
        return converted.out
