"""Starts and restarts the processes that carry the sessions' data: storage and dask-gateway's proxy.

They are not services of the hub. A hub that dies takes its services with it, and the gateway would take its proxy with
it: computations would lose their scheduler, and writes their storage. Runs in the command `up`.
"""

from __future__ import annotations

import subprocess
import sys

from ...local.parent import ends_with_parent
from .hub import config_file, service_environment
from .values import LocalValues

_STOP_SECONDS = 5


class DataPath:
    """The running processes of one stack's data path, by name."""

    def __init__(self, values: LocalValues) -> None:
        self._values = values
        self._commands = _commands(values)
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> list[str]:
        """Start the processes that do not run, and return the names of those that had ended."""
        ended = [name for name, process in self._running.items() if process.poll() is not None]
        for name, command in self._commands.items():
            if name in ended or name not in self._running:
                self._running[name] = self._start(command)
        return ended

    def _start(self, command: list[str]) -> subprocess.Popen[bytes]:
        with (self._values.folder("logs") / "stack.log").open("ab") as log:
            return subprocess.Popen(
                ends_with_parent(command),
                cwd=self._values.folder("run"),
                env=service_environment(self._values),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # only `up` handles Ctrl-C
            )

    @property
    def pids(self) -> frozenset[int]:
        """The process ids."""
        return frozenset(process.pid for process in self._running.values())

    def stop(self) -> None:
        """Stop all processes: by SIGTERM, after a few seconds by SIGKILL."""
        for process in self._running.values():
            process.terminate()
        for process in self._running.values():
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _commands(values: LocalValues) -> dict[str, list[str]]:
    gateway = config_file("gateway", values)
    return {
        "storage": [sys.executable, "-m", "pangeo_binder.deploy.local.storage", str(values.state_dir)],
        "dask-gateway-proxy": [sys.executable, "-m", "dask_gateway_server", "proxy", "-f", gateway],
    }
