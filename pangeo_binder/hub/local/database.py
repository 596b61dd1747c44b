"""The hub's SQLite database in the local profile: its commits do not wait for the disk. Runs in the hub.

The file serves a hub that is restarted while the machine runs, and `up` removes it at its next start. So it need not
survive the end of the machine, and it survives that of the hub: what is committed is with the operating system
(https://www.sqlite.org/pragma.html#pragma_synchronous). JupyterHub commits about ten times for a launch.
"""

from __future__ import annotations

import sqlite3
from typing import Any


class UnsyncedConnection(sqlite3.Connection):
    """A connection whose commits are not forced to the disk."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.execute("PRAGMA journal_mode=WAL")
        self.execute("PRAGMA synchronous=OFF")


DATABASE_OPTIONS = {"connect_args": {"check_same_thread": False, "factory": UnsyncedConnection}}
"""As `JupyterHub.db_kwargs` takes them; the first argument is JupyterHub's own default."""
