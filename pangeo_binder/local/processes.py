"""Finds and ends the local profile's processes by the marks in their environment.

Every process of a stack carries PANGEO_BINDER_STATE_DIR, and those of a launch PANGEO_BINDER_LAUNCH, so what a crash
left behind can be told from everything else on the machine. Used by the hub, the gateway and the command line.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable

import psutil

STATE_DIR = "PANGEO_BINDER_STATE_DIR"
LAUNCH = "PANGEO_BINDER_LAUNCH"

_TERM_SECONDS = 5.0


def _marked(state_dir: str, wanted: Callable[[dict[str, str]], bool]) -> list[psutil.Process]:
    """Return this user's processes of the stack at `state_dir` whose environment is `wanted`, but never this one."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid == os.getpid() or process.uids().real != os.getuid():
                continue
            environ = process.environ()
        except (psutil.Error, OSError):
            continue
        if environ.get(STATE_DIR) == state_dir and wanted(environ):
            found.append(process)
    return found


def _end(processes: list[psutil.Process]) -> int:
    for process in processes:
        _quietly(process.terminate)
    _, alive = psutil.wait_procs(processes, timeout=_TERM_SECONDS)
    for process in alive:
        _quietly(process.kill)
    psutil.wait_procs(alive, timeout=_TERM_SECONDS)
    return len(processes)


def _quietly(signal: Callable[[], None]) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        signal()


def end_marked(state_dir: str, launch_id: str) -> int:
    """End every process of one launch and return how many there were."""
    return _end(_marked(state_dir, lambda environ: environ.get(LAUNCH) == launch_id))


def end_services(state_dir: str) -> int:
    """End what runs the stack (hub, proxy, services) but no launch's own processes; return how many there were."""
    return _end(_marked(state_dir, lambda environ: LAUNCH not in environ))


def end_all(state_dir: str) -> int:
    """End every process of the stack and of its launches; return how many there were."""
    return _end(_marked(state_dir, lambda environ: True))


def is_running(pid: int, created: float) -> bool:
    """Return whether the process `pid` that began at `created` (seconds since the epoch) runs and is no zombie."""
    try:
        process = psutil.Process(pid)
        return abs(process.create_time() - created) < 1 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
