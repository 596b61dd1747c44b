"""One real hub for the folder, and launches of a small environment."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pangeo_binder.model import Environment, Grant, Launch, Link, Repo, RepoRef, ServerGrant
from pangeo_binder.names import new_launch_id, user_name
from tests.hub.hubprocess import HubProcess, NewLaunch, small_environment

GRANT = Grant("small", "r1", "Rule 1.", ServerGrant(1.5, 2**30, 600, 3600))


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    """A real hub, with a real proxy."""
    running = HubProcess(tmp_path_factory.mktemp("hub")).start()
    yield running
    running.stop()


LINK = Link("https://binder.example.org/", "v2/git/sea/main", f"v2/git/sea/{'a' * 40}", "https://example.org/sea")


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    return small_environment(tmp_path_factory.mktemp("environment"))


@pytest.fixture(scope="module")
def new_launch(environment: Environment) -> NewLaunch:
    """Make a launch of a user of its own."""

    def make(**changes: object) -> Launch:
        id_ = new_launch_id()
        repo = Repo(RepoRef("git", Path(environment.checkout).as_uri(), "main"), "a" * 40)
        return replace(Launch(id_, user_name("sea", id_), "", repo, environment, GRANT, link=LINK), **changes)

    return make
