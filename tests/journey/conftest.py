"""Fixtures for this folder: one real stack for each module, a session, and a folder for screenshots."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stack.local import LocalStack, Session

ALLOWED = ("https://book.example", "https://thebe.example")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """The local profile, started by its own command; pages of `ALLOWED` may launch and use sessions."""
    origins = [option for origin in ALLOWED for option in ("--allow-origin", origin)]
    running = LocalStack(tmp_path_factory.mktemp("stack") / "state", *origins).start()
    yield running
    running.stop()
    assert not running.processes(), "processes of the stack were left behind"


@pytest.fixture(scope="module")
def minimal(stack: LocalStack) -> Iterator[Session]:
    """A session of the smallest example, shared by tests that do not change it."""
    session = stack.launch(stack.example("minimal"))
    yield session
    session.stop()


@pytest.fixture(scope="module")
def screenshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder for screenshots of what the user sees."""
    return tmp_path_factory.mktemp("screenshots")
