"""Which tests stay together where several processes run them (`make test ARGS='-n 2 --dist loadgroup'`)."""

from __future__ import annotations

from pathlib import Path

import pytest

_HERE = Path(__file__).parent
_CLUSTER = ("kube", "chart")
"""Folders whose tests share a cluster, which one process starts."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests of a folder in one process, since they share what takes long to start."""
    for item in items:
        folder = item.path.relative_to(_HERE).parts[0]
        item.add_marker(pytest.mark.xdist_group("cluster" if folder in _CLUSTER else folder))
