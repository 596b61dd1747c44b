"""Creates a launch's own writable layer over a shared environment.

All launches of a commit share an environment. `pip install` in a notebook must work and must not affect other launches.
So each launch gets a layer: a small virtual environment that adds the shared packages and receives the installed ones,
with `pip install --user` as without it. The repository's own editable packages are a part of the layer (see `own`).
The hub creates it and starts the server in it; the gateway starts the launch's schedulers and workers in it.
"""

from __future__ import annotations

from pathlib import Path

from .own import add_own

LAYER_NAME = ".session"
"""The name of the layer's directory in a launch's home."""
_BASE_PACKAGES = "include-system-site-packages"
_USER_SITE = (
    "site.ENABLE_USER_SITE = site.check_enableusersite(); user = os.path.abspath(site.getusersitepackages()); "
    "site.ENABLE_USER_SITE and user not in sys.path and site.addsitedir(user)"
)
USER = "jovyan"
"""The user name in builds and sessions, as in repo2docker's images; it is not the system's user."""
_PIP = '#!/bin/sh\nexec "{python}" "{prefix}/bin/pip" "$@"\n'


def home_of(homes: Path, launch_id: str) -> Path:
    """Return a launch's home directory."""
    return homes / launch_id


def layer_of(homes: Path, launch_id: str) -> Path:
    """Return the layer's directory in a launch's home."""
    return home_of(homes, launch_id) / LAYER_NAME


def launch_environment(homes: Path, launch_id: str, prefix: Path) -> dict[str, str]:
    """Return the variables of all processes of a launch in the environment at `prefix`: server, schedulers, workers."""
    home, layer = home_of(homes, launch_id), layer_of(homes, launch_id)
    return {
        "HOME": str(home),
        # repo2docker's names; its prefix is writable, as the layer is
        "REPO_DIR": str(home),
        "NB_USER": USER,
        "NB_PYTHON_PREFIX": str(layer),
        "KERNEL_PYTHON_PREFIX": str(layer),
        "PATH": f"{home}/.local/bin:{layer}/bin:{prefix}/bin:/usr/local/bin:/usr/bin:/bin",
        "VIRTUAL_ENV": str(layer),
        "PYTHONUSERBASE": str(layer),
    }


def script_command(homes: Path, launch_id: str, prefix: Path, script: str) -> list[str]:
    """Return the command of an installed script, run by the launch's own interpreter.

    Not `python -m`: it puts the working folder first on `sys.path`, so that a repository's `random.py` would take the
    place of the standard library's.
    """
    return [str(layer_of(homes, launch_id) / "bin" / "python"), str(prefix / "bin" / script)]


def make_layer(prefix: Path, layer: Path) -> None:
    """Create a layer at `layer` over the virtual environment or conda prefix `prefix`; it has its own `bin/python`."""
    site = next((prefix / "lib").glob("python3*/site-packages"))
    own_site = layer / site.relative_to(prefix)
    own_site.mkdir(parents=True)
    own_bin = layer / "bin"
    own_bin.mkdir()
    own_base = prefix / "bin" / "python"
    settings = prefix / "pyvenv.cfg"
    # a conda prefix is its own base: the interpreter finds its standard library by `home`, not by its real path
    (layer / "pyvenv.cfg").write_text(settings.read_text() if settings.exists() else f"home = {own_base.parent}\n")
    enable_user_site(layer, site)
    base = own_base.resolve()
    for name in ("python", "python3", site.parent.name):
        (own_bin / name).symlink_to(base)
    for name in ("pip", "pip3"):
        _write_script(own_bin / name, _PIP.format(python=own_bin / "python", prefix=prefix))
    add_own(prefix, layer)


def enable_user_site(environment: Path, *shared: Path) -> None:
    """Let `pip install --user` work in a virtual environment, to which the folders `shared` add their packages.

    PYTHONUSERBASE says where the packages go. pip refuses them only if the setting says `false` (its `virtualenv.py`);
    Python adds those of the base interpreter only if it says `true`, and then disables the user site before it reads
    the `.pth` files again (its `site.py`).
    """
    settings = environment / "pyvenv.cfg"
    lines = [line for line in settings.read_text().splitlines() if not line.startswith(_BASE_PACKAGES)]
    settings.write_text("\n".join([*lines, f"{_BASE_PACKAGES} = no", ""]))
    site = next((environment / "lib").glob("python3*/site-packages"))
    # https://docs.python.org/3/library/site.html: a path comes after those that are there, and only once
    added = "".join(f"site.addsitedir({str(each)!r}); " for each in shared)
    (site / "_pangeo_binder.pth").write_text(f"import os, site, sys; {added}{_USER_SITE}\n")


def _write_script(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)
