"""Starts, watches and stops one local stack. JupyterHub manages the services; this module manages the hub.

Before a start it finds processes that a crash left, by their marks, and ends them. Runs in the command `up`. Not for
the services' configuration (`hub`, `gateway`, `binder`, `storage`, `culler`).
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

from ...errors import UserError
from ...hub.local.launch_reaper import LaunchReaper
from ...liveness import HubIsAlive
from ...local.control_group import make_stack_group
from ...local.lineage import hold_lifeline, is_supported
from ...local.logs import bound_logs
from ...local.parent import ends_with_parent
from ...local.processes import STATE_DIR, end_all, end_services
from ...logs import VARIABLE as LOG_FORMAT
from ...loopback import LOOPBACK
from .data_path import DataPath
from .examples import make_repositories
from .hub import config_file
from .values import LocalOptions, LocalValues, Secrets, free_port, reserved_ports, write_values

DEFAULT_PORT = 8585
_ANSWER_BYTES = 1 << 20
_START_SECONDS = 120
_STOP_SECONDS = 20
_RESTART_WINDOW_SECONDS = 60
_REAP_SECONDS = 10
_RESTARTS = 5
"""How often a process may be restarted within that window."""
_RUN_FOLDERS = ("run", "homes", "clusters", "config")
"""Folders of the state directory that are useless once their processes are gone."""


class StackError(UserError):
    """The stack cannot start or keep running."""

    reason = "stack"


def is_free(port: int) -> bool:
    """Return whether no process listens on `port` of loopback."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def choose_public_port(wanted: int | None) -> int:
    """Return the public port: `wanted`, else the default, else any free one. Raises StackError if `wanted` is taken."""
    if wanted is not None and not is_free(wanted):
        raise _in_use(wanted)
    if wanted is not None:
        return wanted
    return DEFAULT_PORT if is_free(DEFAULT_PORT) else free_port()


def _in_use(port: int) -> StackError:
    return StackError(
        f"Port {port} is in use on this machine.", "Choose another with --port, or omit --port to use a free one."
    )


class Stack:
    """One local stack in its state directory."""

    def __init__(self, state_dir: Path, policy: Path | None, options: LocalOptions) -> None:
        self.state_dir = state_dir
        self._policy = policy
        self._options = options
        self._lock: IO[str] | None = None
        self._hub: subprocess.Popen[bytes] | None = None
        self._restarts: dict[str, list[float]] = {}
        self._reserved = ExitStack()
        """The ports of the services, which need the same ones when they are restarted."""
        self._next_reap = 0.0

    def prepare(self, port: int | None) -> int:
        """Lock the state directory, remove what an earlier run left, and return how many processes it ended.

        Raises StackError if the directory is unusable, or if another stack uses it or the port.
        """
        if not self.state_dir.exists():
            choose_public_port(port)  # do not create a directory if the port is taken
        try:
            self.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._take_lock()
        except OSError:
            raise StackError(
                f"The state directory {self.state_dir} cannot be created or written.", "Choose another --state-dir."
            ) from None
        left = end_all(str(self.state_dir))
        self.remove_run_folders()
        public = choose_public_port(port)
        try:
            ports = self._reserved.enter_context(reserved_ports(public))
        except OSError:  # taken since it was chosen
            raise _in_use(public) from None
        self.values = LocalValues(self.state_dir, ports, Secrets(), self._policy, self._options)
        write_values(self.values)
        self._guard_sessions()
        self._data_path = DataPath(self.values)
        is_alive = HubIsAlive(self.values.hub_api, self.values.secrets.status_token)
        self._reaper = LaunchReaper(
            self.state_dir, self.values.folder("run/launches"), self.values.folder("homes"), is_alive
        )
        make_repositories(self.values.folder("examples"))
        return left

    def _guard_sessions(self) -> None:
        """Take the lock with whose end sessions end, and find out how their processes can be found."""
        self.values.folder("run")
        self._lifeline = hold_lifeline(str(self.state_dir))
        self.found_by = "their environment"
        if is_supported():
            grouped = make_stack_group(str(self.state_dir))
            self.found_by = "their control group" if grouped else "their ancestor"

    def _take_lock(self) -> None:
        lock = (self.state_dir / "lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            raise StackError(
                f"Another pangeo-binder is running in {self.state_dir}.", "Stop it, or choose another --state-dir."
            ) from None
        self._lock = lock

    def remove_run_folders(self) -> None:
        """Remove the folders that only running processes need; keep caches, scratch and logs."""
        for name in _RUN_FOLDERS:
            shutil.rmtree(self.state_dir / name, ignore_errors=True)

    @property
    def log_file(self) -> Path:
        """The log file of all processes of the stack."""
        return self.values.folder("logs") / "stack.log"

    def start(self) -> None:
        """Start the data path and the hub, which starts all other processes."""
        self._data_path.start()
        self._start_hub()

    def _start_hub(self) -> None:
        own = {STATE_DIR: str(self.state_dir), "PYTHONUNBUFFERED": "1", LOG_FORMAT: self.values.options.log_format}
        environment = {**os.environ, **own}
        # a traefik from the package index is installed next to the interpreter
        environment["PATH"] = f"{Path(sys.executable).parent}:{environment.get('PATH', '')}"
        command = ends_with_parent([sys.executable, "-m", "jupyterhub", "-f", config_file("hub", self.values)])
        with self.log_file.open("ab") as log:
            self._hub = subprocess.Popen(
                command,
                cwd=self.values.folder("run"),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # only this process handles Ctrl-C; it then stops the hub in order
            )

    def wait_until_ready(self) -> Iterator[set[str]]:
        """Yield the services that answer, until all do. Raises StackError if the hub ends or time runs out."""
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            if self._hub is None or self._hub.poll() is not None:
                raise StackError("JupyterHub ended while it was starting.", f"Read its log: {self.log_file}")
            answering, healthy = self._health()
            yield answering
            if healthy:
                return
            time.sleep(0.3)
        raise StackError(f"The stack was not ready within {_START_SECONDS} seconds.", f"Read its log: {self.log_file}")

    def _health(self) -> tuple[set[str], bool]:
        try:
            with urllib.request.urlopen(f"{self.values.public_url}health", timeout=10) as response:  # noqa: S310
                body = _json(response.read(_ANSWER_BYTES))
        except urllib.error.HTTPError as error:
            body = _json(error.read(_ANSWER_BYTES))
        except OSError:
            return set(), False
        answering = {check["service"] for check in body.get("checks", []) if check["ok"]}
        return answering | ({"binder"} if body else set()), bool(body.get("ok"))

    def watch(self) -> Iterator[str]:
        """Restart the hub and the data path when they end, and yield a message each time, as long as the stack runs.

        Raises StackError if a process ends repeatedly.
        """
        while True:
            assert self._hub is not None
            for name in self._data_path.start():
                self._count_restart(name)
                yield f"{name} ended and was restarted."
            for launch in self._reap():
                yield f"Ended what launch {launch} left."
            try:
                status = self._hub.wait(timeout=0.5)
            except subprocess.TimeoutExpired:
                continue
            self._count_restart("JupyterHub")
            # sessions and clusters keep running, but the dead hub's services hold ports that the new hub needs
            end_services(str(self.state_dir), keep=self._data_path.pids)
            self._start_hub()
            yield f"JupyterHub ended (status {status}) and was restarted. Running sessions continue."

    def _reap(self) -> list[str]:
        if time.monotonic() < self._next_reap:
            return []
        self._next_reap = time.monotonic() + _REAP_SECONDS
        bound_logs(self.log_file, self.values.folder("logs/servers"))
        return asyncio.run(self._reaper.reap())

    def _count_restart(self, name: str) -> None:
        now = time.monotonic()
        recent = [then for then in self._restarts.get(name, []) if now - then < _RESTART_WINDOW_SECONDS]
        if len(recent) >= _RESTARTS:
            raise StackError(f"{name} ended repeatedly.", f"Read its log: {self.log_file}")
        self._restarts[name] = [*recent, now]

    def stop(self) -> int:
        """Stop the stack with its sessions and clusters, and return how many processes it had to end.

        Without the lock, everything in the state directory belongs to another stack, so nothing is stopped.
        """
        if self._lock is None:
            return 0
        if self._hub is not None and self._hub.poll() is None:
            self._hub.send_signal(signal.SIGTERM)
            try:
                self._hub.wait(timeout=_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._hub.kill()
        self._data_path.stop()
        ended = end_all(str(self.state_dir))
        self._reserved.close()
        self.remove_run_folders()
        return ended


def _json(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
