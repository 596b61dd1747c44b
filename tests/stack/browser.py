"""A real Chromium: the machine's own, one installed from Debian's packages, or a loud reason why there is none."""

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
    """Return where Chromium is; root on a Debian machine gets it installed."""
    if not shutil.which("chromium") and os.getuid() == 0 and shutil.which("apt-get"):
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(["sh", "-c", INSTALL], check=False, env=environment, capture_output=True, timeout=600)
    return shutil.which("chromium")


def chromium_path() -> str:
    """Return where Chromium is; without it the test is left out, naming the command that brings it."""
    path = _installed()
    if path is None:
        pytest.skip(f"LEFT OUT: no chromium on this machine; as root, bring it with: {INSTALL}")
    return path


@contextmanager
def browser() -> Iterator[Browser]:
    """Start Chromium and give it."""
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium_path(), args=ARGUMENTS)
        yield running
        running.close()
