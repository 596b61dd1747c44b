"""Test that launches of a commit share no file that they write: editable installs, scripts, kernels, packages."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from pangeo_binder.builders.venv.home import finish_home
from pangeo_binder.builders.venv.sharing import share
from pangeo_binder.local.layer import make_layer
from pangeo_binder.local.own import make_writable

pytestmark = pytest.mark.processes
SITE = f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
PROJECT = """
[build-system]
requires = ["setuptools>=64"]
build-backend = "setuptools.build_meta"
[project]
name = "mypkg"
version = "1.0"
scripts = {{ where = "mypkg:where" }}
[tool.setuptools]
{layout}
"""
HATCH = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "mypkg"
version = "1.0"
scripts = { where = "mypkg:where" }
[tool.hatch.build.targets.wheel]
packages = ["src/mypkg"]
"""
FLIT = """
[build-system]
requires = ["flit_core"]
build-backend = "flit_core.buildapi"
[project]
name = "mypkg"
version = "1.0"
description = "x"
scripts = { where = "mypkg:where" }
"""
POETRY = """
[build-system]
requires = ["poetry-core"]
build-backend = "poetry.core.masonry.api"
[project]
name = "mypkg"
version = "1.0"
scripts = { where = "mypkg:where" }
"""
SETUP = """
from setuptools import setup
scripts = {"console_scripts": ["where=mypkg:where"]}
setup(name="mypkg", version="1.0", packages=["mypkg"], package_dir={"": "src"}, entry_points=scripts)
"""
CODE = 'VALUE = "original"\ndef where():\n    import sys\n    print(__file__, VALUE, sys.prefix)\n'
KINDS = {
    "setuptools, a path": ("pyproject.toml", PROJECT.format(layout='packages.find.where = ["src"]'), "src", ()),
    "setuptools, a finder": ("pyproject.toml", PROJECT.format(layout='packages = ["mypkg"]'), ".", ()),
    "setuptools, links": (
        "pyproject.toml",
        PROJECT.format(layout='packages.find.where = ["src"]'),
        "src",
        ("--config-setting", "editable_mode=strict"),
    ),
    "setuptools, compat": (
        "pyproject.toml",
        PROJECT.format(layout='packages = ["mypkg"]'),
        ".",
        ("--config-setting", "editable_mode=compat"),
    ),
    "setup.py": ("setup.py", SETUP, "src", ()),
    "hatchling": ("pyproject.toml", HATCH, "src", ()),
    "flit": ("pyproject.toml", FLIT, "src", ()),
    "poetry": ("pyproject.toml", POETRY, "src", ()),
}


class Shared:
    """An environment of a repository in `project`, shared by launches."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.venv = folder / "venv"
        self.checkout = folder / "checkout"
        self.checkout.mkdir()
        venv.create(self.venv, symlinks=True)

    def install(self, *what: str) -> None:
        uv = str(Path(sys.executable).with_name("uv"))
        argv = [uv, "pip", "install", "-q", "--python", f"{self.venv}/bin/python", *what]
        subprocess.run(argv, cwd=self.checkout, check=True, env={**os.environ, "UV_LINK_MODE": "hardlink"})

    def share(self) -> None:
        """Finish the build as the builder does."""
        finish_home(self.checkout, 1 << 30)
        share(self.venv, self.checkout)

    def launch(self, name: str) -> Path:
        """Return the home of a new launch, made as the hub makes it."""
        home = self.folder / "homes" / name
        shutil.copytree(self.checkout, home, symlinks=True)
        make_writable(home)
        make_layer(self.venv, home / ".session")
        return home


@pytest.fixture
def shared(tmp_path):
    return Shared(tmp_path)


def run(home: Path, *argv: str) -> str:
    """Run a command with the launch's programs first on PATH, outside of its home."""
    env = {"PATH": f"{home}/.session/bin:/usr/bin:/bin", "HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(argv, cwd="/", env=env, check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.parametrize("kind", KINDS)
def test_each_launch_imports_its_own_copy_of_an_editable_package(shared, kind):
    name, project, root, options = KINDS[kind]
    (shared.checkout / name).write_text(project)
    package = shared.checkout / root / "mypkg"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(CODE)
    shared.install(*options, "-e", ".")
    shared.share()
    one, other = shared.launch("one"), shared.launch("other")
    own = one / root / "mypkg"
    (own / "__init__.py").write_text(CODE.replace("original", "edited"))
    # in the strict mode of setuptools, the package consists of links to the files
    mypkg, value, prefix = run(one, "where").split()
    assert mypkg.startswith(str(one)) and (value, prefix) == ("edited", f"{one}/.session")
    mypkg, value, prefix = run(other, "where").split()
    assert mypkg.startswith(str(other)) and (value, prefix) == ("original", f"{other}/.session")
    version = (
        "from importlib.metadata import version, distribution as d; print(version('mypkg'), d('mypkg').origin.url)"
    )
    if sys.version_info >= (3, 13):
        assert run(one, "python", "-c", version) == f"1.0 {one.as_uri()}"
    assert str(shared.checkout) not in run(one, "python", "-c", "import sys; print(sys.path)")
    url = "from importlib.metadata import distribution as d; print(d('mypkg').read_text('direct_url.json'))"
    assert json.loads(run(one, "python", "-c", url))["url"] == one.as_uri()
    assert str(shared.checkout) not in run(one, "python", "-c", "import sys; print(sys.path)")


def test_installed_packages_come_before_the_repositorys_folder(shared):
    """As without a layer: a `.pth` file adds its path after site-packages."""
    (shared.checkout / "pyproject.toml").write_text(FLIT)
    for name in ("mypkg", "installed"):
        (shared.checkout / name).mkdir()
        (shared.checkout / name / "__init__.py").write_text(CODE)
    shared.install("-e", ".")
    (shared.venv / SITE / "installed.py").write_text("VALUE = 'installed'\n")
    shared.share()
    assert run(shared.launch("one"), "python", "-c", "import installed; print(installed.VALUE)") == "installed"


def test_a_launch_installs_without_changing_another(shared):
    """Also over an editable package, which that launch then no longer imports."""
    for version in ("1.0", "2.0", "3.0"):
        folder = shared.checkout / version
        (folder / "mypkg").mkdir(parents=True)
        (folder / "pyproject.toml").write_text(FLIT.replace("1.0", version))
        (folder / "mypkg" / "__init__.py").write_text(f"VALUE = {version}\n")
    shared.install("pip", "flit_core", "-e", "./1.0")
    shared.share()
    before = _installed(shared)
    homes = [shared.launch(name) for name in ("none", "two", "three")]
    for home, version in zip(homes[1:], ("2.0", "3.0"), strict=True):
        run(home, "pip", "install", "-q", "--no-build-isolation", f"{home}/{version}")
    code = "import mypkg; from importlib.metadata import version; print(mypkg.VALUE, version('mypkg'))"
    assert [run(home, "python", "-c", code) for home in homes] == ["1.0 1.0", "2.0 2.0", "3.0 3.0"]
    assert _installed(shared) == before


def _installed(shared: Shared) -> list[Path]:
    """Return the files of the environment, without bytecode: the tests may run as root, who can write everywhere."""
    return sorted(path for path in shared.venv.rglob("*") if path.suffix != ".pyc" and path.name != "__pycache__")


def test_kernels_and_scripts_run_in_the_launchs_layer(shared):
    python = f"{shared.venv}/bin/python3"
    kernels = {
        shared.venv / "share/jupyter/kernels/of-environment": python,
        shared.checkout / ".local/share/jupyter/kernels/of-home": python,
        shared.venv / "share/jupyter/kernels/python3": "python",
    }
    for folder, argv in kernels.items():
        folder.mkdir(parents=True)
        (folder / "kernel.json").write_text(json.dumps({"argv": [argv, "-m", "ipykernel"], "display_name": "x"}))
    starts = {
        "short": f"#!{python}\n",
        "long": f"#!/bin/sh\n'''exec' {python} \"$0\" \"$@\"\n' '''\n",
        "quoted": f"#!/bin/sh\n'''exec' \"{python}\" \"$0\" \"$@\"\n' '''\n",
        "other": "#!/usr/bin/python3\n",
    }
    for name, start in starts.items():
        (shared.venv / "bin" / name).write_text(f"{start}import sys; print(sys.prefix, sys.argv[1:])\n")
        (shared.venv / "bin" / name).chmod(0o755)
    shared.share()
    home = shared.launch("one")
    for name in ("short", "long", "quoted"):
        assert run(home, name, "a b") == f"{home}/.session ['a b']"
    assert not (home / ".session/bin/other").exists()
    own = home / ".session/share/jupyter/kernels"
    assert [path.name for path in own.iterdir()] == ["of-environment"]
    for file in (own / "of-environment/kernel.json", home / ".local/share/jupyter/kernels/of-home/kernel.json"):
        assert json.loads(file.read_text())["argv"][0] == f"{home}/.session/bin/python3"


def test_a_link_in_the_repository_leads_no_write_out_of_the_home(shared):
    text = json.dumps({"argv": [f"{shared.venv}/bin/python"]})
    victim = shared.folder / "victim" / "share/jupyter/kernels/x/kernel.json"
    victim.parent.mkdir(parents=True)
    victim.write_text(text)
    victim.chmod(0o444)
    (shared.checkout / ".local").symlink_to(shared.folder / "victim")
    (shared.checkout / "file").symlink_to(victim)
    shared.share()
    shared.launch("one")
    assert victim.read_text() == text and stat.S_IMODE(victim.stat().st_mode) == 0o444


def test_what_launches_share_is_read_only_and_their_copies_are_not(shared):
    (shared.checkout / "a").mkdir()
    (shared.checkout / "a" / "file").write_text("x")
    (shared.checkout / "link").symlink_to(shared.checkout / "a")
    (shared.venv / SITE / "module.py").write_text("")
    shared.share()
    for folder in (shared.checkout, shared.venv / "bin", shared.venv / SITE):
        for path in (folder, *folder.rglob("*")):
            assert path.is_symlink() or not path.stat().st_mode & 0o222, path
    home = shared.launch("one")
    for path in (home, *home.rglob("*")):
        assert path.is_symlink() or path.stat().st_mode & stat.S_IWUSR, path
    assert (home / "link").resolve() == home / "a"


def test_files_of_uvs_cache_keep_their_mode(shared):
    """Builds that run later link the same files; their postBuild may copy one and write the copy."""
    cached = shared.folder / "cached.py"
    cached.write_text("")
    (shared.venv / SITE / "linked.py").hardlink_to(cached)
    shared.share()
    assert cached.stat().st_mode & stat.S_IWUSR
