"""The interface of builders: find the environment of a revision, or make it within limits; leave nothing unfinished.

Each kind of builder has its own module or folder. Runs in the binder. `launch.builds` shares one build among launches.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import shutil
import sys
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable, Set
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from ..command import CommandTimedOut, OutputTooLarge
from ..errors import BuildFailed, PangeoBinderError, UserError
from ..events import Phase
from ..git import GitAccess
from ..model import ContainerImage, Environment, FetchKind, Repo
from ..policy.request import PLACES, RepositoryRequest, find_request
from ..policy.units import duration_text
from ..resources import resource

log = logging.getLogger(__name__)

_PRUNE_SECONDS = 3600


@dataclass(frozen=True, slots=True)
class BuildEvent:
    """One line of a build's log; the last event carries the environment."""

    phase: Phase
    """FETCHING or BUILDING; BUILT for the last event."""
    line: str
    environment: Environment | None = None


def identity(repo: Repo) -> tuple[str, ...]:
    """Return what an environment's id depends on of its repository; kinds that git reads share environments."""
    kind = () if repo.fetch is FetchKind.GIT else (repo.ref.provider,)
    return (repo.ref.url, repo.revision, *kind)


def find_uv() -> Path:
    """Return the `uv` in this Python's folder, else the one on PATH. Raises FileNotFoundError."""
    own = Path(sys.executable).with_name("uv")
    found = str(own) if own.exists() else shutil.which("uv")
    if not found:
        raise FileNotFoundError("uv is neither in this Python's folder nor on PATH; install it with `pip install uv`")
    return Path(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildLimits:
    """Limits of builds of any kind."""

    timeout_seconds: float = 1800
    """The time limit of one build, from the first fetch."""


@dataclass(frozen=True, slots=True)
class BuildSettings(BuildLimits):
    """Directories and limits of virtual environment builds."""

    cache_dir: Path
    cache_bytes: int = 50 << 30
    """How much disk the environments may use; above it, the least recently used are pruned."""
    unused_seconds: float = 30 * 24 * 3600
    """Environments unused for this long are pruned."""
    min_free_bytes: int = 1 << 30
    """No build starts with less free disk."""
    home_bytes: int = 10 << 30
    """How much a repository's folder may hold after its build; each session gets a copy of it."""
    python: str = f"{sys.version_info.major}.{sys.version_info.minor}"
    """The Python for repositories that do not request a version."""
    git: GitAccess = field(default_factory=GitAccess)
    uv: Path = field(default_factory=find_uv)
    session_source: Path = field(default_factory=lambda: resource("session"))
    """The source of the session distribution, which is installed into every environment."""


class Builder(ABC):
    """Maker of environments.

    `build` makes the environment and yields its log. On any failure or cancellation it discards what was made and
    raises the reason. A driver implements `find`, `make` and `discard`. A driver that keeps
    files or connections also implements `recover`, `prune` and `close`.
    """

    files: ClassVar[tuple[str, ...]] = ()
    """The files of a repository that this builder reads; empty for all files that repo2docker reads."""
    health_name: ClassVar[str] = "Builds"
    """What `/health` calls the check of this builder."""

    def __init__(self, limits: BuildLimits) -> None:
        self._limits = limits

    @property
    def info(self) -> dict[str, str]:
        """What `/versions` says of this builder: `build_image`, as in BinderHub, if it has one."""
        return {}

    @abstractmethod
    async def find(self, repo: Repo) -> Environment | None:
        """Return the environment of `repo` if it is ready. Every launch calls this, so it must be fast."""

    @abstractmethod
    def make(self, repo: Repo) -> AsyncGenerator[BuildEvent, None]:
        """Make the environment and yield the log; the last event carries it. Raises UserErrors, mostly BuildFailed."""

    @abstractmethod
    async def discard(self, repo: Repo) -> None:
        """Remove the files and processes of an unfinished `make`; keep an environment that is ready."""

    async def check(self) -> None:  # noqa: B027 - a builder may depend on nothing
        """Raise a UserError if no build can succeed now."""

    async def find_request(self, environment: Environment) -> RepositoryRequest:
        """Return the repository's request, by default from its checkout. Raises RequestInvalid."""
        if isinstance(environment, ContainerImage):
            return RepositoryRequest()
        checkout = Path(environment.checkout)
        if not any(os.path.lexists(checkout / Path(place).parent) for place in PLACES):
            return RepositoryRequest()
        # a link in the checkout may lead to a folder that does not answer
        return await asyncio.to_thread(find_request, checkout)

    def recover(self) -> int:
        """Remove what builds of dead processes left; return how many builds that were."""
        return 0

    async def prune(self, in_use: Set[str]) -> list[str]:
        """Remove environments over the builder's limits, except the ids in `in_use`; return the removed ids."""
        return []

    async def close(self) -> None:  # noqa: B027 - a builder may have nothing open
        """Close connections."""

    async def maintain(self, in_use: Callable[[], Awaitable[Set[str]]]) -> None:
        """Prune every hour until cancelled; `in_use` returns the environments of all servers."""
        while True:
            await asyncio.sleep(_PRUNE_SECONDS)
            try:
                if removed := await self.prune(await in_use()):
                    log.info("Pruned %d environments", len(removed))
            except PangeoBinderError as error:
                log.warning("Could not prune environments: %s", error)

    async def build(self, repo: Repo) -> AsyncGenerator[BuildEvent, None]:
        """Yield the build's log; the last event carries the environment.

        Raises BuildFailed, RepoNotFound or RefNotFound after the lines that it has already yielded.
        """
        try:
            async with aclosing(self.make(repo)) as making:
                async for event in making:
                    yield event
        except BaseException as error:
            await asyncio.shield(self.discard(repo))
            if isinstance(error, Exception) and (user_error := self._to_user_error(error)):
                raise user_error from None
            raise

    def _to_user_error(self, error: Exception) -> UserError | None:
        """Return the error to show to the user; None for an internal error."""
        match error:
            case BuildFailed():
                return error
            case CommandTimedOut():
                limit = duration_text(int(self._limits.timeout_seconds))
                return BuildFailed(
                    f"The build took longer than {limit} and was stopped.",
                    "Reduce what the build does, or ask the operator for more time.",
                )
            case OutputTooLarge():
                return BuildFailed(
                    "The build printed more than this binder reads and was stopped.",
                    "Make its commands print less, for example with --quiet or into a file.",
                )
            case OSError(errno=errno.ENOSPC):
                return disk_full()
        return None


def disk_full() -> BuildFailed:
    """Return the error for a full disk."""
    return BuildFailed("This binder's disk is full.", "Tell its operator; nothing is wrong with the repository.")
