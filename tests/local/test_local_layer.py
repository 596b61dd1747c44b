"""A launch's layer: what is installed in it stays in it, over a virtual environment and over a whole prefix alike."""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path

import pytest

from pangeo_binder.local.layer import make_layer

_SHOW = "import sys, shared, json; print(json.dumps([sys.prefix, shared.VALUE]))"


def _virtual_environment(place: Path) -> Path:
    venv.create(place, symlinks=True)
    return place


def _whole_prefix(place: Path) -> Path:
    """Make a prefix with an interpreter of its own and no pyvenv.cfg, as conda makes them."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    (place / "bin").mkdir(parents=True)
    (place / "lib" / version).mkdir(parents=True)
    base = Path(sys.base_prefix)
    for name in ("python", "python3", version):
        (place / "bin" / name).symlink_to(base / "bin" / version)
    for entry in (base / "lib" / version).iterdir():
        if entry.name != "site-packages":
            (place / "lib" / version / entry.name).symlink_to(entry)
    (place / "lib" / version / "site-packages").mkdir()
    return place


@pytest.mark.parametrize("make", [_virtual_environment, _whole_prefix])
def test_a_layer_sees_its_prefix_and_keeps_what_is_installed(make: Callable[[Path], Path], tmp_path: Path) -> None:
    prefix = make(tmp_path / "prefix")
    shared = next((prefix / "lib").glob("python3*/site-packages"))
    (shared / "shared.py").write_text("VALUE = 'of the environment'\n")
    layer = tmp_path / "layer"
    make_layer(prefix, layer)
    own = next((layer / "lib").glob("python3*/site-packages"))
    assert _run(layer) == [str(layer), "of the environment"]
    (own / "shared.py").write_text("VALUE = 'of the layer'\n")
    assert _run(layer) == [str(layer), "of the layer"]
    assert not list(shared.glob("**/*layer*"))


def _run(layer: Path) -> list[str]:
    command = [str(layer / "bin" / "python"), "-c", _SHOW]
    found: list[str] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return found
