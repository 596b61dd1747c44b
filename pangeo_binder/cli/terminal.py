"""The console that commands write to: as wide as the terminal, and without any width where there is none."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

_NO_TERMINAL_COLUMNS = 100_000
"""Rich would fold at 80 columns, and a name that is folded cannot be searched for or copied."""


def make_console(*, stderr: bool = False) -> Console:
    """Return the console of standard output, or of standard error."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, width=None if stream.isatty() else _NO_TERMINAL_COLUMNS)
