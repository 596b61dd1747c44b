"""A process that sheds everything by which it could be found: parent, session, and environment with its marks."""

from __future__ import annotations

import secrets
from contextlib import suppress

import psutil


class Escaped:
    """One such process, to be started by someone else; its command line identifies it."""

    def __init__(self) -> None:
        self._seconds = f"{secrets.randbelow(10**9)}.5"
        self.command = f"env -i setsid -f sleep {self._seconds}"
        """The shell command that starts it; `setsid -f` forks, and the parent ends."""

    def runs(self) -> bool:
        """Whether it runs."""
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.cmdline() == ["sleep", self._seconds] and process.status() != psutil.STATUS_ZOMBIE:
                    return True
        return False

    def end(self) -> None:
        """End it, if a test failed to."""
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.cmdline() == ["sleep", self._seconds]:
                    process.kill()
