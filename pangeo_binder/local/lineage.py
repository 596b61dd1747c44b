"""Runs a process of a launch under a launcher that ends all its descendants with it, whatever they did to detach.

A descendant may leave its session, empty its environment and lose its parent. On Linux it then becomes a child of the
nearest ancestor that is a "child subreaper" (https://man7.org/linux/man-pages/man2/PR_SET_CHILD_SUBREAPER.2const.html).
The launcher is one. It is two processes, an outer and an inner one, so that after `kill -9` of either the other one
still gets the orphans and ends them.

The launcher also ends everything if the stack's `up` ends in any way: it waits for a lock that `up` holds (`lifeline`).
That of a build's command ends with its binder instead. The file runs as a script, without this package and with the
standard library only, because it starts with each server, scheduler and worker. Not for the hub and its services
(`parent`). Runs for the hub, the gateway and the binder.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
END = signal.SIGUSR1
"""The signal for "end everything now", from the lifeline's thread and at the death of the outer process."""
_FORWARDED = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
_AWAITED = _FORWARDED | {signal.SIGCHLD, END}
_GIVE_UP_SECONDS = 10.0
"""A process of another user, for example by `sudo`, cannot be ended; the launcher must not wait for it forever."""


def is_supported() -> bool:
    """Return whether this system can give orphans to a launcher: Linux only."""
    return sys.platform == "linux"


def lifeline_of(state_dir: str) -> Path:
    """Return the file on which `up` holds a lock while it runs."""
    return Path(state_dir) / "run" / "lifeline"


def hold_lifeline(state_dir: str) -> int:
    """Lock the lifeline of a stack and return its file descriptor; the lock ends with this process."""
    descriptor = os.open(lifeline_of(state_dir), os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    return descriptor


def with_launcher(command: list[str], state_dir: str, group: Path | None) -> list[str]:
    """Return the command line that runs `command` under a launcher, in the control group `group` if there is one.

    Returns `command` itself on a system where the launcher does not work.
    """
    if not is_supported():
        return command
    return [*_launcher(), str(lifeline_of(state_dir)), str(group or ""), *command]


def with_own_launcher(command: tuple[str, ...]) -> list[str]:
    """Return the command line that runs `command` under a launcher that ends with the process that starts it.

    The signal `END` makes the launcher end everything. Returns `command` itself on a system where the launcher does not
    work.
    """
    return [*_launcher(), "", "", *command] if is_supported() else [*command]


def _launcher() -> list[str]:
    # `-I -S`: neither the environment's variables nor its packages change how the launcher runs, and it starts in 10 ms
    return [sys.executable, "-I", "-S", __file__]


def descendants(ancestor: int) -> set[int]:
    """Return the process ids of all descendants of a process, zombies included."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):  # noqa: PTH208 - it runs often, and names suffice
        if name.isdigit():
            with suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:  # noqa: PTH123
                # the second field, the name, may contain anything: https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html
                children.setdefault(int(file.read().rpartition(b")")[2].split()[1]), []).append(int(name))
    found: set[int] = set()
    newest = [ancestor]
    while newest:
        newest = [child for parent in newest for child in children.get(parent, ()) if child not in found]
        found.update(newest)
    return found


def main(lifeline: str, group: str, *command: str) -> None:
    """Run `command`, end all its descendants when it ends, and exit with its status (128 + the signal's number)."""
    # blocked, so that `sigwait` receives them: a Python handler would not run while a thread waits for a lock
    signal.pthread_sigmask(signal.SIG_BLOCK, _AWAITED)
    for number in (signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores two of them, and `exec` keeps that
        signal.signal(number, signal.SIG_DFL)
    if group:
        _join(group)
    if not lifeline:
        _end_with_parent(os.getppid(), END)
    outer = os.getpid()
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    if inner := os.fork():
        if lifeline:
            threading.Thread(target=_end_with_lifeline, args=(lifeline,), daemon=True).start()
        os._exit(_wait(inner))
    _end_with_parent(outer, END)
    os.setsid()  # a kill of a process group then reaches one of the two
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    own = os.getpid()
    if child := os.fork():
        os._exit(_wait(child))
    _end_with_parent(own, signal.SIGKILL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _AWAITED)
    try:
        os.execvp(command[0], command)  # noqa: S606 - the launch's own command line
    except OSError as error:
        os.write(2, f"{command[0]}: {error.strerror}\n".encode())
        os._exit(127)


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def _end_with_parent(parent: int, number: signal.Signals) -> None:
    _prctl(_PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:  # it ended before the kernel was asked
        os._exit(1)


def _join(group: str) -> None:
    """Move this process, and so all its descendants, into a control group; the launcher also works without."""
    with suppress(OSError):
        os.makedirs(group, exist_ok=True)  # noqa: PTH103
        Path(group, "cgroup.procs").write_text("0")


def _end_with_lifeline(lifeline: str) -> None:
    """Wait for the lock that `up` holds, then have everything ended. A missing file means that `up` has ended."""
    with suppress(OSError), open(lifeline, "rb") as file:  # noqa: PTH123
        fcntl.flock(file, fcntl.LOCK_SH)
    os.kill(os.getpid(), END)


def _wait(child: int) -> int:
    """Wait until `child` ends or everything is to end; end all descendants, and return the exit status."""
    status = None
    while status is None:
        number = signal.sigwait(_AWAITED)
        if number == END:
            status = 128 + signal.SIGKILL
        elif number == signal.SIGCHLD:
            status = _reap(child)
        else:
            os.kill(child, number)
    _end_descendants()
    return status


def _reap(child: int) -> int | None:
    """Reap all children that have ended; return the exit status of `child` if it is one of them."""
    found = None
    with suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            if ended[0] == child:
                code = os.waitstatus_to_exitcode(ended[1])
                found = code if code >= 0 else 128 - code
    return found


def _end_descendants() -> None:
    """Kill all descendants until none is left."""
    deadline, pause = time.monotonic() + _GIVE_UP_SECONDS, 0.005
    while time.monotonic() < deadline:
        _kill_descendants()
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return  # all orphans become our children, so no child means no descendant
        time.sleep(pause)
        pause = min(2 * pause, 0.5)


def _kill_descendants() -> None:
    """Stop all descendants, so that none can start another or lose its parent meanwhile; then kill them."""
    stopped: set[int] = set()
    while new := descendants(os.getpid()) - stopped:
        _signal(new, signal.SIGSTOP)
        stopped |= new
    _signal(stopped, signal.SIGKILL)


def _signal(pids: set[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


if __name__ == "__main__":
    main(*sys.argv[1:])
