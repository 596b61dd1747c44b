"""Runs a command that ends when its parent ends, whatever ends the parent.

The kernel sends SIGTERM to the command when its parent dies (PR_SET_PDEATHSIG, Linux only;
https://man7.org/linux/man-pages/man2/PR_SET_PDEATHSIG.2const.html). So a stack whose `up` or hub was killed does not
continue unattended. The processes of launches are not started this way: they outlive a hub that restarts.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def ends_with_parent(command: list[str]) -> list[str]:
    """Return the command line that runs `command` as a child of this process and ends it with this process."""
    return [sys.executable, "-m", __name__, str(os.getpid()), *command]


def main(parent: str, *command: str) -> None:
    """Ask the kernel for SIGTERM at the end of the process `parent`, and run `command` in place of this process."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != int(parent):  # it ended before the kernel was asked
            sys.exit(1)
    os.execvp(command[0], command)  # noqa: S606 - the stack's own command lines


if __name__ == "__main__":
    main(*sys.argv[1:])
