"""Starts, watches and stops one local stack. JupyterHub manages the services; this looks after the hub itself.

Whatever a crash left behind is found by the marks of its processes and ended before a start. Runs in the command `up`;
not for the services' configuration (`hub`, `gateway`, `binder`, `storage`, `culler`).
"""

from __future__ import annotations

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
from pathlib import Path
from typing import IO

from ...errors import UserError
from ...local.processes import STATE_DIR, end_all, end_services
from .examples import make_repositories
from .hub import hub_config_file
from .values import LOOPBACK, LocalValues, Secrets, choose_ports, write_values

DEFAULT_PORT = 8585
_START_SECONDS = 120
_STOP_SECONDS = 20
_SOON_SECONDS = 60
_FORGOTTEN = ("run", "homes", "clusters", "config")
"""Folders of the state directory that mean nothing once their processes are gone."""


class StackError(UserError):
    """The stack cannot be started here and now."""

    reason = "stack"


def is_free(port: int) -> bool:
    """Return whether nobody listens on `port` of loopback."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def choose_public_port(wanted: int | None) -> int:
    """Return the port people will use: `wanted`, else the usual one, else any. Raises StackError where it is taken."""
    if wanted is not None and not is_free(wanted):
        raise StackError(
            f"Port {wanted} is in use on this machine.",
            "Choose another with --port, or leave it out and a free one is found.",
        )
    if wanted is not None:
        return wanted
    return DEFAULT_PORT if is_free(DEFAULT_PORT) else choose_ports(0).hub


class Stack:
    """One local stack, in its state directory."""

    def __init__(self, state_dir: Path, policy: Path | None, queue_seconds: int, build_seconds: int) -> None:
        self.state_dir = state_dir
        self._policy = policy
        self._queue_seconds = queue_seconds
        self._build_seconds = build_seconds
        self._lock: IO[str] | None = None
        self._hub: subprocess.Popen[bytes] | None = None
        self._restarts: list[float] = []

    def prepare(self, port: int | None) -> int:
        """Take the state directory, end and remove what an earlier run left in it, and return how much that was.

        Raises StackError where the directory cannot be used, or another stack uses it or the port.
        """
        if not self.state_dir.exists():
            choose_public_port(port)  # a port that is taken must not leave a directory behind
        try:
            self.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._take_lock()
        except OSError:
            raise StackError(
                f"The state directory {self.state_dir} cannot be made or written to.", "Choose another --state-dir."
            ) from None
        left = end_all(str(self.state_dir))
        self.forget()
        public = choose_public_port(port)
        self.values = LocalValues(
            self.state_dir, choose_ports(public), Secrets(), self._policy, self._queue_seconds, self._build_seconds
        )
        write_values(self.values)
        make_repositories(self.values.folder("examples"))
        return left

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

    def forget(self) -> None:
        """Remove what only meant something to processes that are gone; caches, scratch and logs stay."""
        for name in _FORGOTTEN:
            shutil.rmtree(self.state_dir / name, ignore_errors=True)

    @property
    def log_file(self) -> Path:
        """Where all processes of the stack write their logs."""
        return self.values.folder("logs") / "stack.log"

    def start(self) -> None:
        """Start the hub, which starts everything else."""
        environment = {**os.environ, STATE_DIR: str(self.state_dir), "PYTHONUNBUFFERED": "1"}
        # traefik stands beside the interpreter when installed from the package index
        environment["PATH"] = f"{Path(sys.executable).parent}:{environment.get('PATH', '')}"
        command = [sys.executable, "-m", "jupyterhub", "-f", hub_config_file(self.values)]
        with self.log_file.open("ab") as log:
            self._hub = subprocess.Popen(
                command,
                cwd=self.values.folder("run"),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for this process, which then stops the hub in its own order
            )

    def becoming_ready(self) -> Iterator[set[str]]:
        """Yield which services answer, until all do. Raises StackError where they do not."""
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            if self._hub is None or self._hub.poll() is not None:
                raise StackError("JupyterHub ended while it was starting.", f"Its log: {self.log_file}")
            answering, healthy = self._health()
            yield answering
            if healthy:
                return
            time.sleep(0.3)
        raise StackError(f"The stack was not ready within {_START_SECONDS} seconds.", f"Its log: {self.log_file}")

    def _health(self) -> tuple[set[str], bool]:
        try:
            with urllib.request.urlopen(f"{self.values.public_url}health", timeout=10) as response:  # noqa: S310
                body = json.load(response)
        except urllib.error.HTTPError as error:
            body = _json(error.read())
        except (OSError, ValueError):
            return set(), False
        answering = {check["service"] for check in body.get("checks", []) if check["ok"]}
        return answering | ({"binder"} if body else set()), bool(body.get("ok"))

    def watch(self) -> Iterator[str]:
        """Yield a sentence whenever something had to be done, for as long as the stack runs.

        Raises StackError where the hub keeps ending.
        """
        while True:
            assert self._hub is not None
            try:
                status = self._hub.wait(timeout=0.5)
            except subprocess.TimeoutExpired:
                continue
            self._restarts = [then for then in self._restarts if time.monotonic() - then < _SOON_SECONDS]
            if len(self._restarts) >= 5:
                raise StackError("JupyterHub ended again and again.", f"Its log: {self.log_file}")
            self._restarts.append(time.monotonic())
            # sessions and their clusters go on; services of the hub that died would be in the new one's way
            end_services(str(self.state_dir))
            self.start()
            yield f"JupyterHub ended (status {status}) and was started again; running sessions were kept."

    def stop(self) -> int:
        """Stop everything of the stack, sessions and clusters included; return how many processes had to be ended.

        Where the state directory was not taken, all that is in it belongs to another stack and is left alone.
        """
        if self._lock is None:
            return 0
        if self._hub is not None and self._hub.poll() is None:
            self._hub.send_signal(signal.SIGTERM)
            try:
                self._hub.wait(timeout=_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._hub.kill()
        ended = end_all(str(self.state_dir))
        self.forget()
        return ended


def _json(body: bytes) -> dict[str, object]:
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
