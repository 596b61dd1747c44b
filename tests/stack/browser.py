"""A real Chromium: already on the machine, or installed from Debian packages, or a skipped test that says why."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import pytest
from playwright.sync_api import Browser, sync_playwright

ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
INSTALL = "apt-get update && apt-get install -y chromium"


@cache
def _installed() -> str | None:
    """Return the path of Chromium, or None; install it first as root on Debian."""
    if not shutil.which("chromium") and os.getuid() == 0 and shutil.which("apt-get"):
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(["sh", "-c", INSTALL], check=False, env=environment, capture_output=True, timeout=600)
    return shutil.which("chromium")


def chromium_path() -> str:
    """Return the path of Chromium. Without it, skip the test and name the command that installs it."""
    path = _installed()
    if path is None:
        pytest.skip(f"LEFT OUT: no chromium on this machine; as root, install it with: {INSTALL}")
    return path


@contextmanager
def browser(*arguments: str) -> Iterator[Browser]:
    """Start Chromium, with further command-line arguments, and yield it."""
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium_path(), args=[*ARGUMENTS, *arguments])
        yield running
        running.close()
