"""Finds and ends the local profile's processes: by marks in their environment, by ancestors and by control groups.

Every process of a stack has PANGEO_BINDER_STATE_DIR, and each process of a launch also has PANGEO_BINDER_LAUNCH. So
processes left by a crash can be identified. A descendant without marks is found by its ancestors, which have them
(`lineage`), and by its launch's control group if the system has these (`control_group`). Used by the hub, the gateway
and the command line.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable

import psutil

from .control_group import end_group, launch_group, members, stack_group
from .launcher import descendants
from .lineage import with_launcher

STATE_DIR = "PANGEO_BINDER_STATE_DIR"
LAUNCH = "PANGEO_BINDER_LAUNCH"

_TERM_SECONDS = 5.0

_Found = set[psutil.Process]


def launched(command: list[str], state_dir: str, launch_id: str) -> list[str]:
    """Return the command line that runs `command` so that all its descendants are found."""
    return with_launcher(command, state_dir, launch_group(state_dir, launch_id))


def _marked(state_dir: str, wanted: Callable[[dict[str, str]], bool]) -> _Found:
    """Return this user's other processes of the stack at `state_dir` whose environment satisfies `wanted`."""
    found = set()
    for process in _mentioning(state_dir):
        try:
            if process.pid == os.getpid() or process.uids().real != os.getuid():
                continue
            environ = process.environ()
        except (psutil.Error, OSError):
            continue
        if environ.get(STATE_DIR) == state_dir and wanted(environ):
            found.add(process)
    return found


def _mentioning(state_dir: str) -> Iterable[psutil.Process]:
    """Return at least the processes whose environment has `state_dir`.

    Every stop of a server looks for them, twice. psutil reads several files of each process of the machine.
    """
    if sys.platform != "linux":
        return psutil.process_iter()
    pids = []
    for name in os.listdir("/proc"):  # noqa: PTH208 - names suffice
        if name.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{name}/environ", "rb") as file:  # noqa: PTH123
                if os.fsencode(state_dir) in file.read():
                    pids.append(int(name))
    return _processes(pids)


def _with_descendants(found: _Found) -> _Found:
    """Return `found` and all descendants, which may have no marks."""
    ids = descendants(*(process.pid for process in found)) if sys.platform == "linux" else {os.getpid()}
    if os.getpid() not in ids:  # else, as when `up` runs in a session's terminal, this process's children stay
        return found | {process for process in _processes(ids) if not _is_zombie(process)}
    children = defaultdict(list)
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if not _is_zombie(process) and process.pid != os.getpid():
                children[process.ppid()].append(process)
    newest, every = found, set(found)
    while newest:
        newest = {child for parent in newest for child in children[parent.pid]} - every
        every |= newest
    return every


def _is_zombie(process: psutil.Process) -> bool:
    """Return whether a process has ended."""
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return True


def _processes(pids: Iterable[int]) -> _Found:
    found = set()
    for pid in pids:
        with contextlib.suppress(psutil.Error):
            found.add(psutil.Process(pid))
    return found


def _end(find: Callable[[], _Found]) -> int:
    """End what `find` finds, by SIGTERM and then SIGKILL; return the number of processes found at first."""
    found = find()
    for process in found:
        _ignore_ended(process.terminate)
    _, alive = psutil.wait_procs(found, timeout=_TERM_SECONDS)
    stopped: _Found = set()
    # stopped, a process starts no other; and a launcher that is only stopped keeps the orphans to be found
    while new := (find() | set(alive)) - stopped:
        for process in new:
            _ignore_ended(process.suspend)
        stopped |= new
    for process in stopped:
        _ignore_ended(process.kill)
    psutil.wait_procs(stopped, timeout=_TERM_SECONDS)
    return len(found)


def _ignore_ended(signal: Callable[[], None]) -> None:
    """Send a signal; a descendant may have ended, or belong to another user."""
    with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
        signal()


def end_marked(state_dir: str, launch_id: str) -> int:
    """End every process of one launch and return their number."""
    group = launch_group(state_dir, launch_id)

    def find() -> _Found:
        marked = _marked(state_dir, lambda environ: environ.get(LAUNCH) == launch_id)
        return _with_descendants(marked | _processes(members(group)))

    number = _end(find)
    end_group(group)
    return number


def end_services(state_dir: str, keep: frozenset[int]) -> int:
    """End the stack's services (hub, proxy, …) except the processes `keep`; return their number. Launches continue."""

    def find() -> _Found:
        services = _marked(state_dir, lambda environ: LAUNCH not in environ)
        return {process for process in services if process.pid not in keep}

    return _end(find)


def end_all(state_dir: str) -> int:
    """End every process of the stack and of its launches; return their number."""
    group = stack_group(state_dir)

    def find() -> _Found:
        return _with_descendants(_marked(state_dir, lambda environ: True) | _processes(members(group)))

    number = _end(find)
    end_group(group)
    return number


def is_running(pid: int, created: float) -> bool:
    """Return whether the process `pid` created at `created` (seconds since the epoch) runs and is not a zombie."""
    try:
        process = psutil.Process(pid)
        return abs(process.create_time() - created) < 1 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
