"""Prepare a finished environment for being shared by the launches of a commit. Runs in the binder.

An editable install leads to the shared checkout, so a session would import files that another session wrote, and not
its own. It becomes a part of each launch (`local.own`). All that stays is made read-only.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from ...local.own import HOME_MARK, OWN_LINE, TEMPLATE

_WRITE = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH
_MOST_BYTES = 1 << 20


def share(venv: Path, checkout: Path) -> None:
    """Move editable installs of `checkout` out of site-packages, and make both folders read-only."""
    site = next((venv / "lib").glob("python3*/site-packages"))
    if editable := list(_editable_files(site, checkout)):
        for path in editable:
            _move(path, site, venv / TEMPLATE, checkout)
        (site / "zz-pangeo-binder-own.pth").write_text(OWN_LINE)
    for folder in (venv, checkout):
        _make_read_only(folder)


def _editable_files(site: Path, checkout: Path) -> Iterator[Path]:
    """Yield the files of editable installs: paths, finders of imports, and the metadata.

    Setuptools, hatchling, flit, poetry and others write different ones; all name the repository's folder.
    """
    names = _names(checkout)
    for path in site.iterdir():
        if path.suffix in (".pth", ".py", ".egg-link") and path.is_file() and path.stat().st_size <= _MOST_BYTES:
            if any(name in path.read_bytes() for name in names):
                yield path
        elif path.suffix == ".dist-info" and _is_editable(path / "direct_url.json", names):
            yield from (each for each in path.rglob("*") if each.is_file())


def _names(checkout: Path) -> list[bytes]:
    """Return how files name the checkout, the longest first: as it is, without links, and in a URL."""
    paths = {checkout, checkout.resolve()}
    names = {os.fsencode(path) for path in paths} | {path.as_uri().removeprefix("file://").encode() for path in paths}
    return sorted(names, key=len, reverse=True)


def _is_editable(direct_url: Path, names: list[bytes]) -> bool:
    """Whether the metadata says so. Format: https://packaging.python.org/specifications/direct-url-data-structure"""
    try:
        found = json.loads(direct_url.read_bytes())
        return bool(found["dir_info"]["editable"]) and any(name.decode() in found["url"] for name in names)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _move(path: Path, site: Path, own: Path, checkout: Path) -> None:
    text = path.read_bytes()
    for name in _names(checkout):
        text = text.replace(name, HOME_MARK.encode())
    target = own / path.relative_to(site)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(text)
    path.unlink()
    if path.parent != site and not any(path.parent.iterdir()):
        shutil.rmtree(path.parent)


def _make_read_only(folder: Path) -> None:
    """Remove the permission to write from `folder`, its folders, and the files that it does not share with uv's cache.

    A file of the cache is also in environments that are still being built, whose `postBuild` may copy it with its mode.
    """
    for parent, _, files in os.walk(folder):
        for name in files:
            status = Path(parent, name).lstat()
            if stat.S_ISREG(status.st_mode) and status.st_nlink == 1:
                Path(parent, name).chmod(stat.S_IMODE(status.st_mode) & ~_WRITE)
        Path(parent).chmod(stat.S_IMODE(Path(parent).lstat().st_mode) & ~_WRITE)
