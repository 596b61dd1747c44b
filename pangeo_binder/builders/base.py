"""What a builder is: it finds the environment of a commit, or makes it, under limits and leaving nothing half-made.

One file per kind of builder stands beside this one. Runs in the binder; that one build serves many launches is the work
of `launch.builds`.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import shutil
import sys
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable, Set
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from ..command import CommandTimedOut
from ..errors import BuildFailed, PangeoBinderError, UserError
from ..events import Phase
from ..git import GitAccess
from ..model import ContainerImage, Environment, Repo
from ..policy.request import RepositoryRequest, find_request
from ..policy.units import duration_text
from ..resources import resource

log = logging.getLogger(__name__)

_PRUNE_SECONDS = 3600


@dataclass(frozen=True, slots=True)
class BuildEvent:
    """One line of a build's log; the last event carries the environment."""

    phase: Phase
    """FETCHING or BUILDING; BUILT for the last."""
    line: str
    environment: Environment | None = None


def find_uv() -> Path:
    """Return the `uv` beside this Python, else the one on PATH. Raises FileNotFoundError."""
    beside = Path(sys.executable).with_name("uv")
    found = str(beside) if beside.exists() else shutil.which("uv")
    if not found:
        raise FileNotFoundError("uv is neither beside this Python nor on PATH; install it with `pip install uv`")
    return Path(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildLimits:
    """What builds of any kind may take."""

    timeout_seconds: float = 1800
    """How long one build may take, from the first fetch."""
    concurrent: int = 2
    """How many builds this process makes or follows at once."""


@dataclass(frozen=True, slots=True)
class BuildSettings(BuildLimits):
    """Where builds of virtual environments happen and what they may take."""

    cache_dir: Path
    cache_bytes: int = 50 << 30
    """How much disk environments may use; over it, those unused for longest are pruned."""
    unused_seconds: float = 30 * 24 * 3600
    """Environments unused for this long are pruned."""
    min_free_bytes: int = 1 << 30
    """No build starts with less free disk."""
    python: str = f"{sys.version_info.major}.{sys.version_info.minor}"
    """The Python of repositories that ask for none."""
    git: GitAccess = field(default_factory=GitAccess)
    uv: Path = field(default_factory=find_uv)
    session_source: Path = field(default_factory=lambda: resource("session"))
    """The source of the session distribution, which every environment gets."""


class Builder(ABC):
    """Makes the environment of a revision.

    The story of `build`: wait for a free slot, then make the environment line by line. If that fails in any way, a
    cancellation included, discard what was made and say why. A driver fills `find`, `make` and `discard`; one that
    keeps things on disk or connections open also fills `recover`, `prune` and `close`.
    """

    files: ClassVar[tuple[str, ...]] = ()
    """The files of a repository that environments are made from; empty for all that repo2docker knows."""

    def __init__(self, limits: BuildLimits) -> None:
        self._limits = limits
        self._slots = asyncio.Semaphore(limits.concurrent)

    @abstractmethod
    async def find(self, repo: Repo) -> Environment | None:
        """Return the environment of `repo` where it is ready; asked for every launch, so it is quick."""

    @abstractmethod
    def make(self, repo: Repo) -> AsyncGenerator[BuildEvent, None]:
        """Yield the log of making the environment; the last event carries it. Raises UserErrors, mostly BuildFailed."""

    @abstractmethod
    async def discard(self, repo: Repo) -> None:
        """Remove what an unfinished `make` left, processes included; an environment that is ready stays."""

    async def find_request(self, environment: Environment) -> RepositoryRequest:
        """Return the repository's request, by default from its checkout. Raises RequestInvalid."""
        if isinstance(environment, ContainerImage):
            return RepositoryRequest()
        return find_request(Path(environment.checkout))

    async def recover(self) -> int:
        """Remove what builds of dead processes left; return how many there were."""
        return 0

    async def prune(self, in_use: Set[str]) -> list[str]:
        """Remove environments by the builder's limits, but none whose id is `in_use`; return the removed ids."""
        return []

    async def close(self) -> None:  # noqa: B027 - a builder may have nothing open
        """Close connections."""

    async def maintain(self, in_use: Callable[[], Awaitable[Set[str]]]) -> None:
        """Recover once, then prune every hour until cancelled; `in_use` returns the environments of all servers."""
        await self.recover()
        while True:
            await asyncio.sleep(_PRUNE_SECONDS)
            try:
                if removed := await self.prune(await in_use()):
                    log.info("Pruned %d environments", len(removed))
            except PangeoBinderError as error:
                log.warning("Environments were not pruned: %s", error)

    async def build(self, repo: Repo) -> AsyncGenerator[BuildEvent, None]:
        """Yield the build's log; the last event carries the environment.

        Raises BuildFailed, RepoNotFound or RefNotFound; what went before is in the lines already yielded.
        """
        if self._slots.locked():
            yield BuildEvent(Phase.FETCHING, "Waiting for other builds to end.")
        async with self._slots:
            try:
                async with aclosing(self.make(repo)) as making:
                    async for event in making:
                        yield event
            except BaseException as error:
                await asyncio.shield(self.discard(repo))
                if isinstance(error, Exception) and (told := self._explained(error)):
                    raise told from None
                raise

    def _explained(self, error: Exception) -> UserError | None:
        """Return what to tell the person; None for what is nobody's fault but ours."""
        match error:
            case BuildFailed():
                return error
            case CommandTimedOut():
                limit = duration_text(int(self._limits.timeout_seconds))
                return BuildFailed(
                    f"The build took longer than {limit} and was ended.",
                    "Make it do less, or ask the operator for more time.",
                )
            case OSError(errno=errno.ENOSPC):
                return disk_full()
        return None


def disk_full() -> BuildFailed:
    """Return the error for a disk without room."""
    return BuildFailed("This binder's disk is full.", "Tell its operator; nothing is wrong with the repository.")
