"""A real Chromium, or a loud reason why there is none."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, sync_playwright

ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
INSTALL = "apt-get install -y chromium"


def chromium_path() -> str:
    """Return where Chromium is; without it the test is left out, naming the command that brings it."""
    path = shutil.which("chromium")
    if path is None:
        pytest.skip(f"LEFT OUT: no chromium on this machine; bring it with: {INSTALL}")
    return path


@contextmanager
def browser() -> Iterator[Browser]:
    """Start Chromium and give it."""
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium_path(), args=ARGUMENTS)
        yield running
        running.close()
