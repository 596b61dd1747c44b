"""Starts servers as processes of this machine, for the local profile.

All launches run as the operating-system user who started the stack, so use it only on one's own machine. Each has its
own home (a copy of the repository's files) and its own writable layer over the shared environment. Runs in the hub.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from pathlib import Path
from typing import Any

import psutil
from jupyterhub.spawner import LocalProcessSpawner
from traitlets import Unicode

from ...errors import SpawnFailed
from ...local.layer import USER, home_of, launch_environment, layer_of, make_layer, script_command
from ...local.listeners import listens
from ...local.own import make_writable
from ...local.ports import reserved_port
from ...local.processes import STATE_DIR, end_marked, is_running, launched
from ...model import Launch
from ..spawner import LaunchSpawnerMixin, Refused, growing_pauses
from .launch_reaper import forget, record

_ENV_KEEP = ["LANG", "LC_ALL", "TZ", "HTTP_PROXY", "HTTPS_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"]
"""The only variables a server inherits from the hub: the locale, the proxies and the certificates of this machine."""


class LocalLaunchSpawner(LaunchSpawnerMixin, LocalProcessSpawner):
    """A server as a local process in the launch's environment and home."""

    homes = Unicode(help="The directory that holds the launches' homes.", config=True)
    records = Unicode(help="The directory that holds a record of each launch, for the reaper.", config=True)
    logs = Unicode(help="The directory that holds the servers' logs, one for each launch.", config=True)
    state_dir = Unicode(help="The stack's state directory, which marks all its processes.", config=True)

    _created = 0.0
    """When the server's process started, so that a reused pid is not mistaken for it."""

    def _env_keep_default(self) -> list[str]:
        return list(_ENV_KEEP)

    def make_preexec_fn(self, name: str) -> None:
        """Return no function: the server runs as the user who started the stack."""

    def user_env(self, env: dict[str, str]) -> dict[str, str]:
        """Return `env` unchanged: a launch has no system user to look up."""
        return env

    def _home(self, launch: Launch) -> Path:
        return home_of(Path(self.homes), launch.id)

    async def prepare(self, launch: Launch) -> None:
        """Make the launch's home from the repository's files, and its layer; clusters also use them."""
        await super().prepare(launch)
        record(Path(self.records), launch.id, f"{self.user.name}/{self.name}")
        await asyncio.to_thread(_make_home, launch, Path(self.homes))

    def get_env(self) -> dict[str, str]:
        """Return the server's environment, with its own home, layer and marks."""
        env = super().get_env()
        if self.launch is not None:
            prefix, layer = Path(self.launch.local_environment.prefix), layer_of(Path(self.homes), self.launch.id)
            env.update(
                launch_environment(Path(self.homes), self.launch.id, prefix),
                USER=USER,
                SHELL="/bin/bash",
                JUPYTER_PATH=f"{layer}/share/jupyter:{prefix}/share/jupyter",
                JUPYTER_CONFIG_PATH=f"{prefix}/etc/jupyter",
                JUPYTERLAB_DIR=f"{prefix}/share/jupyter/lab",
            )
            env[STATE_DIR] = self.state_dir
        return env

    def get_args(self) -> list[str]:
        """Return a plain Jupyter server's arguments; the token is in the environment, hidden from other users."""
        assert self.launch is not None and self.server is not None
        return [
            "--ServerApp.ip=127.0.0.1",
            f"--ServerApp.port={self.port}",
            "--ServerApp.port_retries=0",
            f"--ServerApp.base_url={self.server.base_url}",
            f"--ServerApp.root_dir={self._home(self.launch)}",
            "--ServerApp.default_url=/lab",
            "--ServerApp.allow_root=True",
            "--ServerApp.open_browser=False",
            "--ServerApp.trust_xheaders=True",
            *self.origin_args(),
            *self.args,
        ]

    async def start(self) -> tuple[str, int]:
        """Start the server, wait for its cluster to settle, and return the host and port."""
        assert self.launch is not None
        self.continue_trace(self.launch)
        environment = self.launch.local_environment
        lab = script_command(Path(self.homes), self.launch.id, Path(environment.prefix), "jupyter-lab")
        self.cmd = launched([*environment.start, *lab], self.state_dir, self.launch.id)
        self.ip = "127.0.0.1"
        log_file = Path(self.logs) / f"{self.launch.id}.log"
        # other launches start at the same time, and none may get this port before the server listens on it
        with reserved_port(self.ip) as self.port:
            with log_file.open("ab") as log:
                self.popen_kwargs = {"cwd": str(self._home(self.launch)), "stdout": log, "stderr": log}
                address: tuple[str, int] = await super().start()
            self._created = psutil.Process(self.pid).create_time()
            await self._wait_until_listening(log_file)
        await self.settle()
        return address

    async def _wait_until_listening(self, log_file: Path) -> None:
        """Wait until the server listens. Raises Refused if it ends first.

        The hub's own wait polls rarely and does not notice a server that has died.
        """
        pauses = growing_pauses()
        while await self.poll() is None:
            if await self._accepts_connections() and await asyncio.to_thread(listens, self.pid, self.port):
                return
            await asyncio.sleep(next(pauses))
        raise Refused(SpawnFailed("The session's server ended while it was starting.", f"Read its log: {log_file}"))

    async def _accepts_connections(self) -> bool:
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection(self.ip, self.port)
            writer.close()
            return True
        return False

    async def poll(self) -> int | None:
        """Return None while the server runs; after a hub restart, its pid and start time identify it."""
        if self.proc is not None:
            status: int | None = await super().poll()
            return status
        if is_running(self.pid, self._created):
            return None
        self.clear_state()
        return 0

    async def discard(self, launch: Launch) -> None:
        """End the processes the server left (kernels, terminals, its clusters' workers) and remove its home."""
        await asyncio.to_thread(end_marked, self.state_dir, launch.id)
        await asyncio.to_thread(shutil.rmtree, self._home(launch), ignore_errors=True)
        forget(Path(self.records), launch.id)

    def get_state(self) -> dict[str, Any]:
        """Return the state with the process's start time."""
        state = super().get_state()
        if self.pid:
            state["created"] = self._created
        return state

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore the start time of a process that kept running while the hub restarted."""
        super().load_state(state)
        self._created = state.get("created", 0.0)


def _make_home(launch: Launch, homes: Path) -> None:
    home = home_of(homes, launch.id)
    home.mkdir(parents=True, mode=0o700)
    checkout, layer = Path(launch.local_environment.checkout), layer_of(homes, launch.id)

    def ignore_layer(folder: str, names: list[str]) -> set[str]:
        # the hub would follow a symbolic link at the layer's path and write to its target
        return {layer.name} & set(names) if Path(folder) == checkout else set()

    shutil.copytree(checkout, home, symlinks=True, dirs_exist_ok=True, ignore=ignore_layer)
    make_writable(home)
    make_layer(Path(launch.local_environment.prefix), layer)
