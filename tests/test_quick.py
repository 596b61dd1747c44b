"""The rule for quick tests sees what starts a service, and what it cannot see is refused."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from pangeo_binder.command import WITH_LIMIT
from tests.hub.hubprocess import HubProcess
from tests.launch.hubserver import small_hub
from tests.quick import refusal, starts_service
from tests.repos.gitrepo import git
from tests.repos.gitserver import git_server
from tests.stack.browser import browser
from tests.stack.local import LocalStack, until
from tests.storage.conftest import storage
from tests.web.webapp import WebApp


class _Starter:
    @property
    def version(self) -> str:
        return subprocess.run(["true"], capture_output=True, text=True, check=True).stdout


class _Heir(_Starter):
    pass


def _by_way_of_others() -> list[_Heir]:
    return [made() for made in (_Heir,)]


def _of_itself() -> object:
    return _of_itself


@pytest.mark.parametrize(
    "used", [HubProcess, LocalStack, browser, git_server, storage, _Starter, _Heir, _by_way_of_others, subprocess]
)
def test_what_starts_a_service_is_seen(used: Any) -> None:
    assert starts_service(getattr(used, "__wrapped__", used))


@pytest.mark.parametrize("used", [WebApp, git, until, small_hub, _of_itself, len, sys, 1])
def test_what_starts_none_is_not(used: Any) -> None:
    assert not starts_service(used)


async def test_a_quick_test_cannot_start_a_program_unseen(request: pytest.FixtureRequest) -> None:
    assert request.node.get_closest_marker("quick")
    with pytest.raises(AssertionError, match="unseen is a quick test and starts `true`: mark it with `processes`"):
        await asyncio.create_subprocess_exec("true")


@pytest.mark.processes
async def test_one_with_the_mark_may(request: pytest.FixtureRequest) -> None:
    assert not request.node.get_closest_marker("quick")
    assert await (await asyncio.create_subprocess_exec("true")).wait() == 0


@pytest.fixture
def started() -> Callable[[], int]:
    """Start a program."""
    return lambda: subprocess.run(["true"], check=True).returncode


def test_a_fixture_counts_as_its_test(started: Callable[[], int], request: pytest.FixtureRequest) -> None:
    assert not request.node.get_closest_marker("quick")
    assert started() == 0


def test_a_shell_that_limits_a_programs_memory_counts_as_the_program() -> None:
    refuse = refusal(lambda: "a quick test")
    shell = ("/bin/sh", "-c", WITH_LIMIT, "sh", "1024")
    refuse("subprocess.Popen", ("/bin/sh", (*shell, "git", "sh"), None, None))
    for argv in ((*shell, "uv", "git"), ("/bin/sh", "-c", "git")):
        with pytest.raises(AssertionError, match="is a quick test and starts"):
            refuse("subprocess.Popen", ("/bin/sh", argv, None, None))
