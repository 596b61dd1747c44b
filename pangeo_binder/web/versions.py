"""The versions of what runs here, for the page about and `/versions`. Binder process."""

from __future__ import annotations

import importlib.metadata

from .. import __version__

_SHOWN = ("binderhub", "jupyter-repo2docker", "tornado")


def installed_versions() -> dict[str, str]:
    """Return versions by distribution name; `not installed` for one that is missing."""
    return {"pangeo-binder": __version__, **{name: _version(name) for name in _SHOWN}}


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
