"""Build virtual environments with uv from requirements.txt, pyproject.toml, setup.py, runtime.txt, postBuild and start,
by repo2docker's rules.

uv resolves the session's needs together with the repository's requirements, so all of its pins are kept. Runs in the
binder. The repository's code runs as the same user: use it on a personal machine and for trusted repositories.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
import time
from collections.abc import AsyncGenerator, Mapping, Set
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path

from ...command import BUILD_MARK, Command, CommandFailed, capture, stream
from ...errors import BuildFailed, PangeoBinderError
from ...events import Phase
from ...local.layer import enable_user_site
from ...model import Environment, Repo, VirtualEnvironment
from ...names import environment_id
from ...policy.request import find_request
from ..base import Builder, BuildEvent, BuildSettings, disk_full, identity
from ..checkout import check_out
from ..recipe import Recipe, check, from_json
from ..session_needs import BASE, session_digest, session_needs
from .explain import is_unsatisfiable
from .home import finish_home, post_build_env
from .pythons import find_python
from .requirements import Requirements, read_requirements
from .scripts import check_scripts, make_executable
from .sharing import share
from .store import EnvironmentStore
from .variables import build_env

BUILDER_VERSION = "venv-2"
"""Part of every environment's id; change it when the way of building changes, so that environments are rebuilt."""

_LOCK_POLL_SECONDS = 0.5
_DETECT_SECONDS = 60
_DETECT_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class _Workspace:
    """One build's directory, the environment variables of its commands, and its deadline (on the monotonic clock)."""

    folder: Path
    env: Mapping[str, str]
    deadline: float

    @property
    def checkout(self) -> Path:
        return self.folder / "checkout"

    @property
    def venv(self) -> Path:
        return self.folder / "venv"

    def command(self, *argv: str, env: Mapping[str, str] | None = None) -> Command:
        """Return a command that runs in the checkout until the deadline at the latest."""
        seconds = max(1, self.deadline - time.monotonic())
        return Command(argv, env or self.env, self.checkout, seconds, launched=True)


class VenvBuilder(Builder):
    """Builder of virtual environments in one cache directory, which several processes may share."""

    files = ("requirements.txt", "pyproject.toml", "setup.py", "runtime.txt", "postBuild", "start")

    def __init__(self, settings: BuildSettings) -> None:
        super().__init__(settings)
        self.settings = settings
        self._store = EnvironmentStore(settings.cache_dir)
        self._digest = session_digest(settings.session_source)

    def environment_id(self, repo: Repo) -> str:
        """Return the id of the environment of `repo`; the same in every process with these settings."""
        return environment_id(*identity(repo), BUILDER_VERSION, self.settings.python, self._digest)

    async def find(self, repo: Repo) -> Environment | None:
        return self._store.find(self.environment_id(repo))

    async def make(self, repo: Repo) -> AsyncGenerator[BuildEvent, None]:
        self._check_disk()
        id_, waiting = self.environment_id(repo), False
        while True:
            with self._store.lock(id_) as free:
                if free:
                    async with aclosing(self._find_or_make(repo, id_)) as making:
                        async for event in making:
                            yield event
                    return
            if not waiting:
                waiting = True
                yield BuildEvent(Phase.FETCHING, "Another process is building this environment; waiting for it.")
            await asyncio.sleep(_LOCK_POLL_SECONDS)

    async def discard(self, repo: Repo) -> None:
        id_ = self.environment_id(repo)
        with self._store.lock(id_) as free:
            if free:  # else another process builds it now, and has already removed the leftovers
                await asyncio.to_thread(self._store.discard_unfinished, id_)

    def recover(self) -> int:
        """Remove the files and child processes of builds whose process died; return how many builds that were."""
        return self._store.prune_unfinished()

    async def prune(self, in_use: Set[str]) -> list[str]:
        """Remove the least recently used environments above `cache_bytes`, and all unused for `unused_seconds`."""
        limits = (self.settings.cache_bytes, self.settings.unused_seconds)
        return await asyncio.to_thread(self._store.prune, in_use, *limits)

    async def check(self) -> None:
        """Raise BuildFailed if the disk is too full for a build."""
        self._check_disk()

    def _check_disk(self) -> None:
        self.settings.cache_dir.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(self.settings.cache_dir).free < self.settings.min_free_bytes:
            raise disk_full()

    async def _find_or_make(self, repo: Repo, id_: str) -> AsyncGenerator[BuildEvent, None]:
        if found := self._store.find(id_):
            yield BuildEvent(Phase.BUILT, "Found the environment.", found)
            return
        folder = self._store.path(id_)
        await asyncio.to_thread(self._store.remove, id_)
        (folder / "home").mkdir(parents=True)
        deadline = time.monotonic() + self.settings.timeout_seconds
        workspace = _Workspace(folder, build_env(repo, folder, self.settings), deadline)
        async with aclosing(check_out(repo, workspace.checkout, self.settings.git, deadline)) as fetching:
            async for line in fetching:
                yield BuildEvent(Phase.FETCHING, line)
        # report an invalid request now, not after minutes of installing
        await asyncio.to_thread(find_request, workspace.checkout)
        recipe = await self._recipe(workspace)
        check(recipe)
        await asyncio.to_thread(check_scripts, workspace.checkout, recipe.post_build, recipe.start)
        async with aclosing(self._steps(recipe, workspace)) as building:
            async for line in building:
                yield BuildEvent(Phase.BUILDING, line)
        await asyncio.to_thread(finish_home, workspace.checkout, self.settings.home_bytes)
        start = _start(recipe, workspace.checkout)
        await asyncio.to_thread(share, workspace.venv, workspace.checkout)
        environment = VirtualEnvironment(id_, str(workspace.venv), str(workspace.checkout), start)
        await asyncio.to_thread(shutil.rmtree, folder / "home", ignore_errors=True)
        await asyncio.to_thread(self._store.finish, environment)
        yield BuildEvent(Phase.BUILT, "Built the environment.", environment)

    async def _recipe(self, workspace: _Workspace) -> Recipe:
        # isolated mode (-I), so that Python imports no module from the checkout
        argv = (sys.executable, "-I", "-m", "pangeo_binder.builders.detect", self.settings.python)
        env = {name: value for name, value in workspace.env.items() if name in ("PATH", "HOME", "LC_ALL", BUILD_MARK)}
        detected = await capture(Command(argv, env, workspace.checkout, _DETECT_SECONDS), _DETECT_BYTES)
        if detected.code:
            raise PangeoBinderError(f"repo2docker's detection failed: {detected.err[-2000:]}")
        return from_json(detected.out)

    async def _steps(self, recipe: Recipe, workspace: _Workspace) -> AsyncGenerator[str, None]:
        """Make the virtual environment, install into it, run postBuild, and yield the log."""
        python = await find_python(recipe.python, self.settings, workspace.env)
        if python.note:
            yield python.note
        for step in (self._install(recipe, workspace, python.path), _post_build(recipe, workspace)):
            async with aclosing(step) as lines:
                async for line in lines:
                    yield line

    async def _install(self, recipe: Recipe, workspace: _Workspace, python: str) -> AsyncGenerator[str, None]:
        listed = await asyncio.to_thread(read_requirements, workspace.checkout, recipe.requirements, workspace.env)
        for note in listed.notes:
            yield note
        package = (".",) if recipe.package else ()
        packages = " and ".join((*filter(None, (recipe.requirements,)), *package)) or "no packages of the repository"
        yield f"Installing {packages}, and the packages that every session needs"
        try:
            needs = (*package, *session_needs(await self._session_wheel(workspace)))
            async with aclosing(self._installs(listed, workspace, python, needs)) as installs:
                async for install in installs:
                    async with aclosing(install) as lines:
                        async for line in lines:
                            yield line
            enable_user_site(workspace.venv)
        except CommandFailed as error:
            raise await asyncio.to_thread(listed.explain, error.tail) from None

    async def _installs(
        self, listed: Requirements, workspace: _Workspace, python: str, needs: tuple[str, ...]
    ) -> AsyncGenerator[AsyncGenerator[str, None], None]:
        """Yield uv's steps, each with its lines; the next one is made when the one before has ended."""
        uv, venv = str(self.settings.uv), str(workspace.venv)
        yield stream(workspace.command(uv, "venv", "--quiet", "--python", python, venv))
        wanted = await asyncio.to_thread(listed.write, workspace.folder / "home")
        if listed.apart:
            yield stream(workspace.command(uv, "pip", "install", "--python", venv, *wanted))
            wanted = await _hold(uv, workspace)
        yield _with_base(workspace.command(uv, "pip", "install", "--python", venv, *wanted, *needs))

    async def _session_wheel(self, workspace: _Workspace) -> Path:
        """Return the wheel of the session distribution, built once for all environments."""
        folder = self.settings.cache_dir / "session" / self._digest
        if not folder.exists():
            draft = workspace.folder / "home" / "session"
            argv = ("build", "--wheel", "--no-color", "--out-dir", str(draft), str(self.settings.session_source))
            async with aclosing(stream(workspace.command(str(self.settings.uv), *argv))) as lines:
                async for _ in lines:
                    pass
            folder.parent.mkdir(parents=True, exist_ok=True)
            try:
                draft.rename(folder)
            except OSError:
                if not folder.exists():  # else another build has made it meanwhile
                    raise
        return next(folder.glob("*.whl"))


async def _hold(uv: str, workspace: _Workspace) -> tuple[str, ...]:
    """Return the arguments that keep what is installed at its versions."""
    listed = await capture(workspace.command(uv, "pip", "list", "--python", str(workspace.venv), "--format", "json"))
    held = workspace.folder / "home" / "installed.txt"
    held.write_text("".join(f"{each['name']}=={each['version']}\n" for each in json.loads(listed.out or "[]")))
    return ("-c", str(held))


async def _with_base(install: Command) -> AsyncGenerator[str, None]:
    """Run uv to install the packages of the base, too; if they do not fit, without them. Raises CommandFailed."""
    try:
        async with aclosing(stream(replace(install, argv=(*install.argv, *BASE)))) as lines:
            async for line in lines:
                yield line
    except CommandFailed as error:
        if not is_unsatisfiable(error.tail):
            raise
        names = ", ".join(need.partition(">")[0] for need in BASE)
        yield f"The packages do not all fit together; trying without {names}"
        async with aclosing(stream(install)) as lines:
            async for line in lines:
                yield line


async def _post_build(recipe: Recipe, workspace: _Workspace) -> AsyncGenerator[str, None]:
    """Run postBuild in the repository, its home, as repo2docker does; it needs no executable bit and no shebang."""
    if not recipe.post_build:
        return
    yield f"Running {recipe.post_build}"
    script = make_executable(workspace.checkout / recipe.post_build)
    env = post_build_env(workspace.env, workspace.checkout, workspace.venv)
    try:
        # sh interprets a file without a shebang itself
        async with aclosing(stream(workspace.command("/bin/sh", "-c", '"$0"', str(script), env=env))) as lines:
            async for line in lines:
                yield line
    except CommandFailed as error:
        raise BuildFailed(
            f"The repository's {recipe.post_build} failed with exit code {error.code}.", "The log says why."
        ) from None


def _start(recipe: Recipe, checkout: Path) -> tuple[str, ...]:
    """Return the start command, relative to the session's copy of the repository."""
    if not recipe.start:
        return ()
    script = make_executable(checkout / recipe.start)
    with script.open("rb") as file:
        has_shebang = file.read(2) == b"#!"
    path = os.path.join(".", recipe.start)  # noqa: PTH118 - Path drops the dot, which prevents a search in PATH
    return (path,) if has_shebang else ("/bin/sh", path)
