"""Finds and ends the local profile's processes by marker variables in their environment.

Every process of a stack has PANGEO_BINDER_STATE_DIR, and each process of a launch also has PANGEO_BINDER_LAUNCH. So
processes left by a crash can be identified. Used by the hub, the gateway and the command line.
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
    """Return this user's other processes of the stack at `state_dir` whose environment satisfies `wanted`."""
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
        _ignore_ended(process.terminate)
    _, alive = psutil.wait_procs(processes, timeout=_TERM_SECONDS)
    for process in alive:
        _ignore_ended(process.kill)
    psutil.wait_procs(alive, timeout=_TERM_SECONDS)
    return len(processes)


def _ignore_ended(signal: Callable[[], None]) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        signal()


def end_marked(state_dir: str, launch_id: str) -> int:
    """End every process of one launch and return their number."""
    return _end(_marked(state_dir, lambda environ: environ.get(LAUNCH) == launch_id))


def end_services(state_dir: str, keep: frozenset[int]) -> int:
    """End the stack's services (hub, proxy, …) except the processes `keep`; return their number. Launches continue."""
    services = _marked(state_dir, lambda environ: LAUNCH not in environ)
    return _end([process for process in services if process.pid not in keep])


def end_all(state_dir: str) -> int:
    """End every process of the stack and of its launches; return their number."""
    return _end(_marked(state_dir, lambda environ: True))


def is_running(pid: int, created: float) -> bool:
    """Return whether the process `pid` created at `created` (seconds since the epoch) runs and is not a zombie."""
    try:
        process = psutil.Process(pid)
        return abs(process.create_time() - created) < 1 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
