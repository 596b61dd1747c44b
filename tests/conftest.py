"""Which tests stay together where several processes run them (`make test ARGS='-n 2'`)."""

from __future__ import annotations

from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

_CLUSTER = ("kube", "chart")
"""Folders whose tests share a cluster, which one process starts."""


class FolderScheduling(LoadScopeScheduling):
    """Keeps the tests of a folder in one process, since they share what takes long to start."""

    def _split_scope(self, nodeid: str) -> str:
        folder = nodeid.split("/")[1]
        return "cluster" if folder in _CLUSTER else folder.split("::")[0]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> FolderScheduling:
    """Have xdist give work out in this way."""
    return FolderScheduling(config, log)
