"""Which tests are quick, and which stay together where several processes run them (`make test ARGS='-n 2'`)."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from tests.quick import is_quick, refusal

_CLUSTER = ("kube", "chart")
"""Folders whose tests share a cluster, which one process starts."""
_running = [""]
"""The quick test that runs."""


class FolderScheduling(LoadScopeScheduling):
    """Keeps the tests of a folder in one process, since they share what takes long to start."""

    def _split_scope(self, nodeid: str) -> str:
        folder = nodeid.split("/")[1]
        return "cluster" if folder in _CLUSTER else folder.split("::")[0]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> FolderScheduling:
    """Have xdist give work out in this way."""
    return FolderScheduling(config, log)


def pytest_configure() -> None:
    """Refuse services to quick tests; a hook stays for the life of the process. Let builds compile no bytecode."""
    os.environ["UV_COMPILE_BYTECODE"] = "0"
    sys.addaudithook(refusal(lambda: _running[0]))


@pytest.hookimpl(tryfirst=True)  # before `-m quick` selects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the quick tests."""
    for item in filter(is_quick, items):
        item.add_marker("quick")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Note the quick test that runs."""
    _running[0] = item.nodeid if item.get_closest_marker("quick") else ""
    try:
        return (yield)
    finally:
        _running[0] = ""


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown() -> None:
    """Release the test before its teardown: the last one of a process also ends the servers that others started."""
    _running[0] = ""
