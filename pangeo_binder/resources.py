"""Finds the data folders of the project: templates, examples and the session distribution.

In a checkout they are top-level folders; the wheel contains them under `_resources`. Not for state or caches.
"""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def resource(name: str) -> Path:
    """Return the folder called `name` (`templates`, `examples` or `session`).

    Raises FileNotFoundError if neither the checkout nor the wheel contains it.
    """
    for base in (_PACKAGE / "_resources", _PACKAGE.parent):
        if (base / name).is_dir():
            return base / name
    raise FileNotFoundError(f"pangeo-binder was installed without its {name!r} folder")
