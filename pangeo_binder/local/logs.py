"""Bounds the size and the number of a local stack's logs. Runs in the command `up`, every few seconds.

Services and servers write to their logs directly and have them open for as long as they run, so a log that is too large
is copied and then emptied. They append, so they continue at its new end.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

STACK_LOG_BYTES = 16 << 20
SERVER_LOG_BYTES = 4 << 20
SERVER_LOGS = 100
"""How many files of servers' logs are kept: the ones that were written last."""

_ROTATED = ".1"


def bound_logs(stack_log: Path, server_logs: Path) -> None:
    """Rotate the logs that are too large, and remove the oldest logs of servers.

    The rest of a log is in `<name>.1`. A line that is written during a rotation may be lost.
    """
    rotate(stack_log, STACK_LOG_BYTES)
    found = sorted(((_status(each), each) for each in server_logs.iterdir()), key=lambda pair: pair[0].st_mtime)
    for _, each in found[:-SERVER_LOGS]:
        each.unlink(missing_ok=True)
    for _, each in found[-SERVER_LOGS:]:
        if each.suffix != _ROTATED:
            rotate(each, SERVER_LOG_BYTES)


def _status(path: Path) -> os.stat_result:
    with suppress(FileNotFoundError):
        return path.lstat()
    return os.stat_result((0,) * 10)


def rotate(log: Path, max_bytes: int) -> None:
    """Move the end of `log` to `<name>.1` if it is larger than `max_bytes`; a full disk leaves it as it is."""
    status = _status(log)
    if status.st_size <= max_bytes or not stat.S_ISREG(status.st_mode):
        return
    with suppress(OSError), log.open("r+b") as file:
        file.seek(-max_bytes, os.SEEK_END)
        log.with_name(f"{log.name}{_ROTATED}").write_bytes(file.read(max_bytes))
        file.truncate(0)
