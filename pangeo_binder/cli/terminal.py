"""The console that commands write to: as wide as the terminal, or without line folding if there is no terminal.

And the page through which they open a browser.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

_NO_TERMINAL_COLUMNS = 100_000
"""Without a terminal, Rich folds lines at 80 columns, and a folded name can be neither searched nor copied."""


def make_console(*, stderr: bool = False) -> Console:
    """Return a console on standard output, or on standard error if `stderr`."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, width=None if stream.isatty() else _NO_TERMINAL_COLUMNS)


def redirect_page(address: str) -> str:
    """Return a page that opens `address`. In a private file, it keeps a token out of the browser's command line, which
    every user of a machine can read."""
    return f'<!doctype html><meta http-equiv="refresh" content="0; url={escape(address)}">'


@contextmanager
def status_line(console: Console, text: str) -> Iterator[Callable[[str], None]]:
    """Show a line that says what happens now, and yield what changes its text; without a terminal, show nothing.

    Rich draws the line into a file as well if FORCE_COLOR is set, as in many CI systems.
    """
    if not console.file.isatty():
        yield lambda text: None
        return
    with console.status(text) as status:
        yield status.update
