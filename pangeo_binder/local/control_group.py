"""Gives each launch of the local profile a control group, if this system lets the user make one.

A process stays in its control group whatever it does to its parents, session and environment. So the group also finds
what no launcher (`lineage`) and no mark (`processes`) finds. Needs version 2 of control groups, write access at the
group of `up`, and Linux 5.14 for `cgroup.kill` (https://docs.kernel.org/admin-guide/cgroup-v2.html). Runs in `up`, the
hub and the gateway.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import time
from contextlib import suppress
from pathlib import Path

_NAME = "pangeo-binder-"
_END_SECONDS = 5.0


def _record(state_dir: str) -> Path:
    return Path(state_dir) / "run" / "control-group"


def make_stack_group(state_dir: str) -> bool:
    """Make the group that holds the groups of a stack's launches, and record it; return whether that was possible."""
    own = _own_group()
    if own is None:
        return False
    group = own / f"{_NAME}{secrets.token_hex(4)}"
    try:
        group.mkdir()
        if not (group / "cgroup.kill").exists() or not _admits(group):
            group.rmdir()
            return False
    except OSError:
        return False
    _record(state_dir).write_text(str(group))
    return True


def _own_group() -> Path | None:
    """Return the directory of this process's group; None without version 2 of control groups."""
    with suppress(OSError, StopIteration):
        lines = Path("/proc/self/cgroup").read_text().splitlines()
        own = Path(next(line[3:] for line in lines if line.startswith("0::")))
        # https://man7.org/linux/man-pages/man5/proc_pid_mountinfo.5.html: field 4 is the root within the file system
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            mount, _, system = line.partition(" - ")
            root, place = mount.split()[3:5]
            if system.startswith("cgroup2 ") and own.is_relative_to(root) and ".." not in own.parts:
                return Path(place) / own.relative_to(root)
    return None


def _admits(group: Path) -> bool:
    """Return whether a process can move into the group; the rights to make a group are not enough."""
    move = 'echo $$ > "$0/cgroup.procs"'
    return subprocess.run(["sh", "-c", move, group], capture_output=True, check=False).returncode == 0


def stack_group(state_dir: str) -> Path | None:
    """Return the group of a stack's launches; None if it has none."""
    with suppress(OSError):
        group = Path(_record(state_dir).read_text())
        if group.name.startswith(_NAME):
            return group
    return None


def launch_group(state_dir: str, launch_id: str) -> Path | None:
    """Return the group of a launch, whether or not it exists; None if the stack has none."""
    group = stack_group(state_dir)
    return None if group is None else group / launch_id


def members(group: Path | None) -> set[int]:
    """Return the ids of all processes in a group and in the groups that they made in it."""
    found: set[int] = set()
    if group is not None:
        for folder, _, _ in os.walk(group):
            with suppress(OSError):
                found.update(map(int, Path(folder, "cgroup.procs").read_text().split()))
    return found


def end_group(group: Path | None) -> None:
    """Kill all processes of a group and remove it, if there is one."""
    if group is None or not group.exists():
        return
    with suppress(OSError):
        (group / "cgroup.kill").write_text("1")
    deadline = time.monotonic() + _END_SECONDS
    while members(group) and time.monotonic() < deadline:
        time.sleep(0.01)
    for folder, _, _ in os.walk(group, topdown=False):
        with suppress(OSError):
            Path(folder).rmdir()
