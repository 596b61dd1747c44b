"""Runs a process of a launch under a launcher that ends all its descendants with it, whatever they did to detach.

The launcher (`launcher`) also ends everything if the stack's `up` ends in any way: it waits for a lock that `up` holds
(`lifeline`). That of a build's command ends with its binder instead. Not for the hub and its services (`parent`). Runs
for the hub, the gateway and the binder.
"""

from __future__ import annotations

import fcntl
import os
import sys
from pathlib import Path

from . import launcher

END = launcher.END
"""The signal for "end everything now"."""
_RUN = "import sys; sys.path.append(sys.argv[1]); from launcher import main; main(*sys.argv[2:])"


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
    # `-I -S`: neither the environment's variables nor its packages change how the launcher runs. It is imported and not
    # run as a script, because Python compiles a script at each start. Its folder comes last: no module there hides one
    # of the standard library.
    return [sys.executable, "-I", "-S", "-c", _RUN, str(Path(launcher.__file__).parent)]
