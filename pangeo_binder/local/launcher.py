"""The launcher of one process: ends all its descendants with it, whatever they did to detach.

A descendant may leave its session, empty its environment and lose its parent. On Linux it then becomes a child of the
nearest ancestor that is a "child subreaper" (https://man7.org/linux/man-pages/man2/PR_SET_CHILD_SUBREAPER.2const.html).
The launcher is one. It is two processes, an outer and an inner one, so that after `kill -9` of either the other one
still gets the orphans and ends them.

A launcher starts with each server, scheduler and worker. So this file is imported by itself, without its package and
without site-packages, and its imports are few: `signal`, `threading`, `pathlib` and `contextlib` would take longer to
import than everything else. Its command line is made by `lineage`.
"""

from __future__ import annotations

# ruff: noqa: SIM105, PTH123 - `suppress` and `Path` have to be imported
import _signal as signal  # all that `signal` adds are enumerations
import _thread
import ctypes
import fcntl
import os
import time

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
END = signal.SIGUSR1
"""The signal for "end everything now", from the lifeline's thread and at the death of the outer process."""
_FORWARDED = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
_AWAITED = _FORWARDED | {signal.SIGCHLD, END}
_GIVE_UP_SECONDS = 10.0
"""A process of another user, for example by `sudo`, cannot be ended; the launcher must not wait for it forever."""


def descendants(*ancestors: int) -> set[int]:
    """Return the process ids of all descendants of processes, zombies included."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):  # noqa: PTH208
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    line = file.read()
            except OSError:
                continue
            # the second field, the name, may contain anything: https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html
            children.setdefault(int(line.rpartition(b")")[2].split()[1]), []).append(int(name))
    found: set[int] = set()
    newest = [*ancestors]
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
            _thread.start_new_thread(_end_with_lifeline, (lifeline,))
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


def _end_with_parent(parent: int, number: int) -> None:
    _prctl(_PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:  # it ended before the kernel was asked
        os._exit(1)


def _join(group: str) -> None:
    """Move this process, and so all its descendants, into a control group; the launcher also works without."""
    try:
        os.makedirs(group, exist_ok=True)  # noqa: PTH103
        with open(f"{group}/cgroup.procs", "w") as file:
            file.write("0")
    except OSError:
        pass


def _end_with_lifeline(lifeline: str) -> None:
    """Wait for the lock that `up` holds, then have everything ended. A missing file means that `up` has ended."""
    try:
        with open(lifeline, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH)
    except OSError:
        pass
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
    try:
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            if ended[0] == child:
                code = os.waitstatus_to_exitcode(ended[1])
                found = code if code >= 0 else 128 - code
    except ChildProcessError:
        pass
    return found


def _end_descendants() -> None:
    """Kill all descendants until none is left."""
    deadline, pause = time.monotonic() + _GIVE_UP_SECONDS, 0.005
    while time.monotonic() < deadline:
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return  # all orphans become our children, so no child means no descendant
        _kill_descendants()
        time.sleep(pause)
        pause = min(2 * pause, 0.5)


def _kill_descendants() -> None:
    """Stop all descendants, so that none can start another or lose its parent meanwhile; then kill them."""
    stopped: set[int] = set()
    while new := descendants(os.getpid()) - stopped:
        _signal_all(new, signal.SIGSTOP)
        stopped |= new
    _signal_all(stopped, signal.SIGKILL)


def _signal_all(pids: set[int], number: int) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except (ProcessLookupError, PermissionError):
            pass
