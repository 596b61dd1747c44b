"""The home that postBuild sees: the checkout itself, as in repo2docker's images. Each session gets a copy of it.

So what postBuild leaves in `~` (kernels, data, settings) is in every session. Packages that it installs with
`pip install --user` are in the environment, which sessions share. Runs in the binder.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from ...errors import BuildFailed
from ...local.layer import USER
from ...policy.units import size_text


def post_build_env(env: Mapping[str, str], checkout: Path, venv: Path) -> dict[str, str]:
    """Return the variables of postBuild, from those of the build's other commands, `env`.

    The others have a temporary home, so that none reads settings of the repository, such as a `.netrc`.
    """
    caches = Path(env["HOME"]) / "cache"  # removed after the build: sessions do not need downloaded packages twice
    return {
        **env,
        "HOME": str(checkout),
        "NB_USER": USER,
        "USER": USER,
        "PATH": f"{checkout}/.local/bin:{env['PATH']}",
        "PYTHONUSERBASE": str(venv),
        "PIP_CACHE_DIR": str(caches / "pip"),
        "NPM_CONFIG_CACHE": str(caches / "npm"),
    }


def finish_home(checkout: Path, max_bytes: int) -> None:
    """Prepare the checkout for being copied. Raises BuildFailed if its files have more than `max_bytes`."""
    size = 0
    for path in _files(checkout):
        size += path.lstat().st_size
        if size > max_bytes:
            raise BuildFailed(
                f"The repository's folder has more than {size_text(max_bytes)}, and each session gets a copy of it.",
                "Let postBuild download less; read large data from object storage instead.",
            )
        if path.is_symlink():
            _make_relative(path, checkout)


def _files(folder: Path) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
        for name in (*files, *folders):
            yield Path(parent, name)


def _make_relative(link: Path, checkout: Path) -> None:
    """Make a link to an absolute path in the checkout relative: in a copy it would lead out of the session's home."""
    target = link.readlink()
    if target.is_absolute() and target.is_relative_to(checkout):
        link.unlink()
        link.symlink_to(os.path.relpath(target, link.parent))
