"""Finds the files that stand beside the Python code: templates, examples and the session distribution.

They are top-level folders of a checkout, and are packed into the wheel under `_resources`. Not for state or caches.
"""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def resource(name: str) -> Path:
    """Return the folder called `name` (`templates`, `examples` or `session`).

    Raises FileNotFoundError where neither a checkout nor a wheel holds it.
    """
    for base in (_PACKAGE / "_resources", _PACKAGE.parent):
        if (base / name).is_dir():
            return base / name
    raise FileNotFoundError(f"pangeo-binder was installed without its {name!r} folder")
