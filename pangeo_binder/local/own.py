"""What a launch does not share: its copies of the files of an environment that lead to the repository or to Python.

An editable install names the repository's folder, and a script or a kernel names its interpreter. In a launch these are
its home and its layer. The builder moves editable installs out of the environment's site-packages into `TEMPLATE`; the
hub copies them, and the scripts and kernels, into each layer. `layer` creates the layer itself.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

TEMPLATE = Path("share/pangeo-binder/own")
"""The folder of an environment with its editable installs. Each layer gets a copy."""
HOME_MARK = "/pangeo-binder-home-of-the-launch"
"""Stands for a launch's home in those files."""
_OF_SHARED_PYTHON = "os.path.join(os.environ.get('PYTHONUSERBASE', sys.prefix), 'own')"
OWN_LINE = (
    "import os, site, sys; own = os.path.join(sys.prefix, 'own'); "
    f"site.addsitedir(own if os.path.isdir(own) else {_OF_SHARED_PYTHON})\n"
)
"""A line of a `.pth` file of the environment: it adds the layer's copy, after the installed packages as before."""

_MOST_BYTES = 1 << 20
_KERNELS = Path("share/jupyter/kernels")
_RUN = b"#!/bin/sh\n'''exec' \"%s\" \"$0\" \"$@\"\n' '''\n"
"""The first lines of a script, valid in sh and in Python: a path in `#!` may have at most 127 bytes on older Linux."""


def add_own(prefix: Path, layer: Path) -> None:
    """Add the launch's copies of files of the environment at `prefix` to `layer`, a folder in the launch's home."""
    home, folder = str(layer.parent), prefix / TEMPLATE
    for source in folder.rglob("*"):
        if source.is_file():
            target = layer / "own" / source.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            own = quote(home) if source.name == "direct_url.json" else home
            target.write_bytes(source.read_bytes().replace(HOME_MARK.encode(), own.encode()))
    _add_scripts(prefix, layer)
    for kernel in _small_files(prefix / _KERNELS, "*/kernel.json"):
        _adapt_kernel(kernel, layer / kernel.relative_to(prefix), prefix, layer)
    for kernel in _small_files(layer.parent / ".local" / _KERNELS, "*/kernel.json"):
        # the repository may have made any part of this path a link
        if kernel.resolve() == layer.parent.resolve() / kernel.relative_to(layer.parent):
            _adapt_kernel(kernel, kernel, prefix, layer)


def make_writable(folder: Path) -> None:
    """Let the owner write `folder` and everything in it: it is a copy of a folder that is read-only."""
    folder.chmod(folder.stat().st_mode | stat.S_IWUSR)
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(parent, name)
            if not path.is_symlink():
                path.chmod(path.stat().st_mode | stat.S_IWUSR)


def _add_scripts(prefix: Path, layer: Path) -> None:
    """Add the scripts that run in the environment's Python, so that they run in the layer's."""
    names = b"|".join(re.escape(os.fsencode(each / "bin")) for each in (prefix, prefix.resolve()))
    start = re.compile(rb"#!(?:/bin/sh\n'''exec' [\"']?)?(?:%s)/python[0-9.]*[^\n]*\n(?:' '''\n)?" % names)
    for script in _small_files(prefix / "bin", "*"):
        target, text = layer / "bin" / script.name, script.read_bytes()
        if (found := start.match(text)) and not target.exists():
            target.write_bytes(_RUN % os.fsencode(layer / "bin" / "python") + text[found.end() :])
            target.chmod(0o755)


def _adapt_kernel(source: Path, target: Path, prefix: Path, layer: Path) -> None:
    """Write the kernel description at `source`, if it names the environment's interpreter, to `target`."""
    text = source.read_text(errors="replace")
    if f'"{prefix}/bin/python' in text:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text.replace(f'"{prefix}/bin/python', f'"{layer}/bin/python'))


def _small_files(folder: Path, pattern: str) -> Iterator[Path]:
    for path in folder.glob(pattern):
        if not path.is_symlink() and path.is_file() and path.stat().st_size <= _MOST_BYTES:
            yield path
