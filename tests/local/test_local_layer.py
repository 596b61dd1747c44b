"""A launch's layer: packages installed in it stay in it, over a virtual environment or a conda-like prefix."""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path

import pytest

from pangeo_binder.local.layer import enable_user_site, make_layer

_SHOW = """
import json, shared, site, sys
folders = [path for path in sys.path if path.endswith("site-packages")]
print(json.dumps([sys.prefix, shared.VALUE, site.ENABLE_USER_SITE, folders]))
"""


def _virtual_environment(folder: Path) -> Path:
    venv.create(folder, symlinks=True)
    return folder


def _conda_like_prefix(folder: Path) -> Path:
    """Create a prefix with its own interpreter and no pyvenv.cfg, as conda does."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    (folder / "bin").mkdir(parents=True)
    (folder / "lib" / version).mkdir(parents=True)
    base = Path(sys.base_prefix)
    for name in ("python", "python3", version):
        (folder / "bin" / name).symlink_to(base / "bin" / version)
    for entry in (base / "lib" / version).iterdir():
        if entry.name != "site-packages":
            (folder / "lib" / version / entry.name).symlink_to(entry)
    (folder / "lib" / version / "site-packages").mkdir()
    return folder


@pytest.mark.parametrize("make", [_virtual_environment, _conda_like_prefix])
def test_a_layer_reads_its_prefix_and_keeps_its_own_packages(make: Callable[[Path], Path], tmp_path: Path) -> None:
    prefix = make(tmp_path / "prefix")
    shared = next((prefix / "lib").glob("python3*/site-packages"))
    (shared / "shared.py").write_text("VALUE = 'of the environment'\n")
    layer = tmp_path / "layer"
    make_layer(prefix, layer)
    own = next((layer / "lib").glob("python3*/site-packages"))
    folders = [str(own), str(shared)]
    assert _run(layer) == [str(layer), "of the environment", True, folders], "and no packages of the base"
    (own / "shared.py").write_text("VALUE = 'of the layer'\n")
    assert _run(layer) == [str(layer), "of the layer", True, folders]
    assert not list(shared.glob("**/*layer*"))


def test_pip_is_not_replaced_by_a_module_of_the_working_folder(tmp_path: Path) -> None:
    prefix = tmp_path / "prefix"
    venv.create(prefix, symlinks=True, with_pip=True)
    make_layer(prefix, tmp_path / "layer")
    (tmp_path / "random.py").write_text("raise SystemExit(9)\n")
    (tmp_path / "pip.py").write_text("raise SystemExit(9)\n")
    command = [str(tmp_path / "layer" / "bin" / "pip"), "--version"]
    answer = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    assert str(prefix) in answer


def test_packages_of_the_base_stay_out_of_an_environment_with_a_user_site(tmp_path: Path) -> None:
    """As in postBuild, where both are the environment's own; in a session, the layer's come after them."""
    prefix, layer = _virtual_environment(tmp_path / "prefix"), tmp_path / "layer"
    own = next((prefix / "lib").glob("python3*/site-packages"))
    (own / "shared.py").write_text("VALUE = 'of the environment'\n")
    enable_user_site(prefix)
    make_layer(prefix, layer)
    added = str(next((layer / "lib").glob("python3*/site-packages")))
    assert _run(prefix)[2:] == [True, [str(own)]]
    assert _run(prefix, layer)[2:] == [True, [str(own), added]]
    assert _run(layer)[2:] == [True, [added, str(own)]]


def _run(prefix: Path, users: Path | None = None) -> list[object]:
    command, environment = [str(prefix / "bin" / "python"), "-c", _SHOW], {"PYTHONUSERBASE": str(users or prefix)}
    shown = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    found: list[object] = json.loads(shown)
    return found
