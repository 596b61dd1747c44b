"""Sizes and durations as people write them in policy files, turned into bytes and seconds. Pure.

Sizes are powers of 1024, as JupyterHub's `mem_limit` reads them, so `8G` is the same here and there:
https://jupyterhub.readthedocs.io/en/stable/reference/api/traitlets.html
"""

from __future__ import annotations

import re

_SIZE = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)([KMGT])i?")
_DURATION = re.compile(r"([0-9]{1,6})([smhd])")
_BYTES = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def size_bytes(value: object) -> int:
    """Return a size such as `8G`, `512M`, `1.5Gi` or a whole number of bytes, in bytes.

    Raises ValueError with a sentence if it is not a size.
    """
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    found = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError("A size is a number and K, M, G or T (powers of 1024), such as 512M or 8G.")
    return int(float(found[1]) * _BYTES[found[2]])


def duration_seconds(value: object) -> int:
    """Return a duration such as `90s`, `10m`, `3h` or `7d`, in seconds.

    Raises ValueError with a sentence if it is not a duration; a number without a unit is not one.
    """
    found = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError("A duration is a whole number and s, m, h or d, such as 90s, 10m, 3h or 7d.")
    return int(found[1]) * _SECONDS[found[2]]


def size_text(size: int) -> str:
    """Return `size` bytes as a person writes it: `8G`, `1.5G`, `512M`."""
    for unit, factor in reversed(_BYTES.items()):
        if size >= factor:
            return f"{size / factor:.4g}{unit}"
    return f"{size} bytes"


def duration_text(seconds: int) -> str:
    """Return `seconds` in the largest unit that divides it: `3h`, `90m`, `90s`."""
    for unit, factor in reversed(_SECONDS.items()):
        if seconds and seconds % factor == 0:
            return f"{seconds // factor}{unit}"
    return f"{seconds}s"
