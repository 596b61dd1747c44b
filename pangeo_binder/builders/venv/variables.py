"""Environment variables of a build's commands: package indexes and certificates, but no home, tokens or settings.

The operator configures package indexes in uv's and pip's own variables and files. Runs in the binder.
"""

from __future__ import annotations

import os
from pathlib import Path

from ...command import BUILD_MARK, inherited
from ...git import git_env
from ...model import Repo
from ..base import BuildSettings

_INDEXES = (
    *("UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_INDEX_STRATEGY", "UV_FIND_LINKS"),
    *("UV_NATIVE_TLS", "UV_SYSTEM_CERTS", "UV_HTTP_TIMEOUT", "UV_OFFLINE"),
    *("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_DEFAULT_TIMEOUT"),
)


def build_env(repo: Repo, folder: Path, settings: BuildSettings) -> dict[str, str]:
    """Return all environment variables of a build's commands; the build's files are below `folder`."""
    home, venv = folder / "home", folder / "venv"
    env = inherited(*_INDEXES) | git_env(repo.ref.url, settings.git)
    for name in ("GIT_CONFIG_GLOBAL", "SSH_AUTH_SOCK"):  # postBuild may configure git in its own home, but gets no keys
        env.pop(name, None)
    env |= {
        BUILD_MARK: str(folder),
        "PATH": f"{venv}/bin:{os.environ.get('PATH', os.defpath)}",
        "HOME": str(home),
        "TMPDIR": str(home),
        "VIRTUAL_ENV": str(venv),
        "LC_ALL": "C.UTF-8",
        "NO_COLOR": "1",
        "PYTHONUNBUFFERED": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_SRC": str(folder / "checkout" / "src"),  # of `pip install -e git+…`, as on BinderHub
        "UV_CACHE_DIR": str(settings.cache_dir / "uv"),
        "UV_LINK_MODE": "hardlink",
        "UV_NO_PROGRESS": "1",
        # sessions cannot write bytecode into a read-only environment
        "UV_COMPILE_BYTECODE": os.environ.get("UV_COMPILE_BYTECODE", "1"),
        "UV_PYTHON_DOWNLOADS": "never",
        "UV_PYTHON_INSTALL_DIR": os.environ.get("UV_PYTHON_INSTALL_DIR", str(_data_home() / "uv" / "python")),
        # always set: otherwise uv would read the repository's own uv.toml
        "UV_CONFIG_FILE": str(_uv_settings(settings.cache_dir)),
        # repo2docker's names, which postBuild scripts use
        "REPO_DIR": str(folder / "checkout"),
        "NB_PYTHON_PREFIX": str(venv),
        "KERNEL_PYTHON_PREFIX": str(venv),
    }
    if pip_settings := _first(_config_home() / "pip" / "pip.conf", Path.home() / ".pip" / "pip.conf"):
        env["PIP_CONFIG_FILE"] = str(pip_settings)
    return env


def _config_home() -> Path:
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")


def _data_home() -> Path:
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")


def _first(*paths: Path) -> Path | None:
    return next((path for path in paths if path.is_file()), None)


def _uv_settings(cache_dir: Path) -> Path:
    """Return the operator's uv settings, or an empty file. Paths: https://docs.astral.sh/uv/concepts/configuration-files/"""
    if given := os.environ.get("UV_CONFIG_FILE"):
        return Path(given)
    if found := _first(_config_home() / "uv" / "uv.toml", Path("/etc/uv/uv.toml")):
        return found
    empty = cache_dir / "uv.toml"
    empty.touch()
    return empty
