"""Finds whether a job works in the session's terminals: one that writes, or that uses processor time.

Jupyter Server's own last activity has a terminal's output only while a browser shows it: the handler of the websocket
sets it. So a job would not count once its tab is closed. Works with any version of terminado, and without it.
"""

import os
import time

BUSY_SHARE = 0.1
"""The share of one core above which a terminal's processes are at work; monitors such as `htop` use less."""
_SESSION, _TIMES = 3, slice(11, 15)
"""Fields of /proc/<pid>/stat behind the command's name: the session; user and system time, own and of ended children.

https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html
"""


class Terminals:
    """The terminals of a server with these web settings."""

    def __init__(self, settings):
        self._settings = settings
        self._written = {}
        self._used_seconds = 0.0
        self._seen_at = time.monotonic()

    def are_working(self):
        """Return whether a terminal has worked since the previous call."""
        terminals = self._terminals()
        wrote, computed = self._have_written(terminals), self._have_computed(terminals)
        return wrote or computed

    def _terminals(self):
        manager = self._settings.get("terminal_manager")  # set late, and only if terminals are enabled
        return list(getattr(manager, "terminals", {}).items())

    def _have_written(self, terminals):
        # terminado keeps the last output for the next browser; older versions note no time
        before, self._written = self._written, {name: _last_output(terminal) for name, terminal in terminals}
        return any(output is not before.get(name) for name, output in self._written.items())

    def _have_computed(self, terminals):
        used, now = _processor_seconds({terminal.ptyproc.pid for _, terminal in terminals}), time.monotonic()
        busy = used - self._used_seconds > BUSY_SHARE * (now - self._seen_at)
        self._used_seconds, self._seen_at = used, now
        return busy


def _last_output(terminal):
    buffer = getattr(terminal, "read_buffer", None)
    return buffer[-1] if buffer else None


def _processor_seconds(sessions):
    """Return the processor time of all processes in these sessions; 0 on systems without /proc."""
    if not sessions or not os.path.isdir("/proc/self"):
        return 0.0
    ticks = sum(_ticks(pid, sessions) for pid in os.listdir("/proc") if pid.isdigit())
    return ticks / os.sysconf("SC_CLK_TCK")


def _ticks(pid, sessions):
    try:
        with open("/proc/{}/stat".format(pid), "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:  # it has ended
        return 0
    return sum(map(int, fields[_TIMES])) if int(fields[_SESSION]) in sessions else 0
