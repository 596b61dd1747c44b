"""Builds environments as virtual environments with uv: requirements.txt, pyproject.toml, setup.py, runtime.txt,
postBuild and start, by repo2docker's rules.

The session's own needs are resolved together with the repository's requirements, so none of its pins moves. Runs in the
binder, and the repository's code in it runs as the same user: for one person's machine and for trusted repositories.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import time
from collections.abc import AsyncGenerator, Mapping, Set
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

from ...command import BUILD_MARK, Command, CommandFailed, capture, stream
from ...errors import BuildFailed, PangeoBinderError
from ...events import Phase
from ...model import Environment, Repo, VirtualEnvironment
from ...names import environment_id
from ...policy.request import find_request
from ..base import Builder, BuildEvent, BuildSettings, disk_full
from ..checkout import Checkout
from ..recipe import Recipe, check, from_json
from ..session_needs import session_digest, session_needs
from .explain import explain, own_indexes
from .pythons import find_python
from .store import EnvironmentStore
from .variables import build_env

BUILDER_VERSION = "venv-1"
"""Part of every environment's id: a change of how they are made makes new ones."""

_LOCK_LOOK_SECONDS = 0.5
_DETECT_SECONDS = 60


@dataclass(frozen=True, slots=True)
class _Site:
    """Where one build happens, with what its commands see and when its time is up (on the monotonic clock)."""

    place: Path
    env: Mapping[str, str]
    deadline: float

    @property
    def checkout(self) -> Path:
        return self.place / "checkout"

    @property
    def venv(self) -> Path:
        return self.place / "venv"

    def command(self, *argv: str, env: Mapping[str, str] | None = None) -> Command:
        """Return a command that runs in the checkout, for what is left of the time."""
        return Command(argv, env or self.env, self.checkout, max(1, self.deadline - time.monotonic()))


class VenvBuilder(Builder):
    """Makes virtual environments below one cache directory, which several processes may share."""

    files = ("requirements.txt", "pyproject.toml", "setup.py", "runtime.txt", "postBuild", "start")

    def __init__(self, settings: BuildSettings) -> None:
        super().__init__(settings)
        self.settings = settings
        self._store = EnvironmentStore(settings.cache_dir)
        self._digest = session_digest(settings.session_source)

    def environment_id(self, repo: Repo) -> str:
        """Return the id of the environment of `repo`; the same in every process with these settings."""
        return environment_id(repo.ref.url, repo.revision, BUILDER_VERSION, self.settings.python, self._digest)

    async def find(self, repo: Repo) -> Environment | None:
        return self._store.find(self.environment_id(repo))

    async def make(self, repo: Repo) -> AsyncGenerator[BuildEvent, None]:
        self._check_disk()
        id_, told = self.environment_id(repo), False
        while True:
            with self._store.lock(id_) as free:
                if free:
                    async with aclosing(self._found_or_made(repo, id_)) as making:
                        async for event in making:
                            yield event
                    return
            if not told:
                told = True
                yield BuildEvent(Phase.FETCHING, "Another process is building this environment; waiting for it.")
            await asyncio.sleep(_LOCK_LOOK_SECONDS)

    async def discard(self, repo: Repo) -> None:
        id_ = self.environment_id(repo)
        with self._store.lock(id_) as free:
            if free:  # else another process took over, and began by removing what was left
                await asyncio.to_thread(self._store.discard_unfinished, id_)

    async def recover(self) -> int:
        """Remove what builds of dead processes left, their own processes included."""
        return await asyncio.to_thread(self._store.prune_unfinished)

    async def prune(self, in_use: Set[str]) -> list[str]:
        """Remove the least recently used environments over `cache_bytes`, and all unused for `unused_seconds`."""
        limits = (self.settings.cache_bytes, self.settings.unused_seconds)
        return await asyncio.to_thread(self._store.prune, in_use, *limits)

    def _check_disk(self) -> None:
        self.settings.cache_dir.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(self.settings.cache_dir).free < self.settings.min_free_bytes:
            raise disk_full()

    async def _found_or_made(self, repo: Repo, id_: str) -> AsyncGenerator[BuildEvent, None]:
        if found := self._store.find(id_):
            yield BuildEvent(Phase.BUILT, "Found the environment.", found)
            return
        place = self._store.path(id_)
        await asyncio.to_thread(self._store.remove, id_)
        (place / "home").mkdir(parents=True)
        deadline = time.monotonic() + self.settings.timeout_seconds
        site = _Site(place, build_env(repo, place, self.settings), deadline)
        async with aclosing(Checkout(repo, site.checkout, self.settings.git, deadline).run()) as fetching:
            async for line in fetching:
                yield BuildEvent(Phase.FETCHING, line)
        find_request(site.checkout)  # a mistake in it is told now, not after minutes of installing
        recipe = await self._recipe(site)
        check(recipe)
        async with aclosing(self._steps(recipe, site)) as building:
            async for line in building:
                yield BuildEvent(Phase.BUILDING, line)
        environment = VirtualEnvironment(id_, str(site.venv), str(site.checkout), _start(recipe, site.checkout))
        await asyncio.to_thread(shutil.rmtree, place / "home", ignore_errors=True)
        await asyncio.to_thread(self._store.finish, environment)
        yield BuildEvent(Phase.BUILT, "Built the environment.", environment)

    async def _recipe(self, site: _Site) -> Recipe:
        # isolated (-I), because a module in the checkout must not be taken for one of ours
        argv = (sys.executable, "-I", "-m", "pangeo_binder.builders.detect", self.settings.python)
        env = {name: value for name, value in site.env.items() if name in ("PATH", "HOME", "LC_ALL", BUILD_MARK)}
        detected = await capture(Command(argv, env, site.checkout, _DETECT_SECONDS))
        if detected.code:
            raise PangeoBinderError(f"repo2docker's detection failed: {detected.err[-2000:]}")
        return from_json(detected.out)

    async def _steps(self, recipe: Recipe, site: _Site) -> AsyncGenerator[str, None]:
        """Yield the lines of making the virtual environment, installing into it, and postBuild."""
        python = await find_python(recipe.python, self.settings, site.env)
        for step in (self._install(recipe, site, python), _post_build(recipe, site)):
            async with aclosing(step) as lines:
                async for line in lines:
                    yield line

    async def _install(self, recipe: Recipe, site: _Site, python: str) -> AsyncGenerator[str, None]:
        uv = str(self.settings.uv)
        wanted = (*(("-r", recipe.requirements) if recipe.requirements else ()), *((".",) if recipe.package else ()))
        try:
            needs = session_needs(await self._session_wheel(site))
            yield f"Installing {' '.join(wanted) or 'no packages of its own'}, and what every session needs"
            for command in (
                site.command(uv, "venv", "--quiet", "--python", python, str(site.venv)),
                site.command(uv, "pip", "install", "--python", str(site.venv), *wanted, *needs),
            ):
                async with aclosing(stream(command)) as lines:
                    async for line in lines:
                        yield line
        except CommandFailed as error:
            raise explain(error.tail, _own_indexes(recipe, site)) from None

    async def _session_wheel(self, site: _Site) -> Path:
        """Return the wheel of the session distribution, built once for all environments."""
        folder = self.settings.cache_dir / "session" / self._digest
        if not folder.exists():
            draft = site.place / "home" / "session"
            argv = ("build", "--wheel", "--no-color", "--out-dir", str(draft), str(self.settings.session_source))
            async with aclosing(stream(site.command(str(self.settings.uv), *argv))) as lines:
                async for _ in lines:
                    pass
            folder.parent.mkdir(parents=True, exist_ok=True)
            try:
                draft.rename(folder)
            except OSError:
                if not folder.exists():  # else another build was faster
                    raise
        return next(folder.glob("*.whl"))


def _own_indexes(recipe: Recipe, site: _Site) -> dict[str, str]:
    """Return the package indexes that the repository's requirements name, each with the file that does."""
    if not recipe.requirements:
        return {}
    text = (site.checkout / recipe.requirements).read_text(errors="replace")
    return dict.fromkeys(own_indexes(text), recipe.requirements)


async def _post_build(recipe: Recipe, site: _Site) -> AsyncGenerator[str, None]:
    """Run the repository's postBuild as repo2docker does: in the repository, executable or not, shebang or not."""
    if not recipe.post_build:
        return
    yield f"Running {recipe.post_build}"
    script = site.checkout / recipe.post_build
    script.chmod(script.stat().st_mode | 0o111)
    try:
        # sh runs a file without a shebang itself
        async with aclosing(stream(site.command("/bin/sh", "-c", '"$0"', str(script)))) as lines:
            async for line in lines:
                yield line
    except CommandFailed as error:
        raise BuildFailed(
            f"The repository's {recipe.post_build} failed with exit code {error.code}.", "The log says why."
        ) from None


def _start(recipe: Recipe, checkout: Path) -> tuple[str, ...]:
    """Return the start command, relative to the copy of the repository in which a session runs."""
    if not recipe.start:
        return ()
    script = checkout / recipe.start
    script.chmod(script.stat().st_mode | 0o111)
    with script.open("rb") as file:
        has_shebang = file.read(2) == b"#!"
    path = os.path.join(".", recipe.start)  # noqa: PTH118 - Path drops the dot, which keeps it from PATH
    return (path,) if has_shebang else ("/bin/sh", path)
