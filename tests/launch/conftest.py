"""A policy with few seats, a builder that is quick, and the journey made with them and a small hub."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from pathlib import Path

import pytest

from pangeo_binder.builders.base import Builder, BuildEvent, BuildSettings
from pangeo_binder.events import Phase
from pangeo_binder.launch.admission import Admission
from pangeo_binder.launch.builds import SharedBuilds
from pangeo_binder.launch.hub import Hub
from pangeo_binder.launch.pipeline import Collaborators, Pipeline
from pangeo_binder.launch.queue import Queue
from pangeo_binder.model import Click, Environment, Grant, Launch, Repo, RepoRef, ServerGrant, VirtualEnvironment
from pangeo_binder.names import new_launch_id, user_name
from pangeo_binder.policy.load import load_policy
from pangeo_binder.policy.model import Policy
from pangeo_binder.repos.git import GitProvider
from tests.launch.hubserver import KEYS, TOKEN, SmallHub, small_hub
from tests.repos.gitserver import git_server
from tests.stack.repository import repository

__all__ = ["KEYS", "git_server"]

POLICY = """
tiers:
  small: {server: {cpu: 1, memory: 1G, idle: 10m, max_age: 1h}, dask: none, storage: none}
rules:
  - {repo: "*/denied", deny: "This repository is not allowed here."}
  - {repo: "*", tier: small, servers: 1}
"""


NewAdmission = Callable[..., Admission]


@pytest.fixture
def policy(tmp_path: Path) -> Policy:
    """A policy with one seat."""
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY)
    return load_policy(path)


@pytest.fixture
def repo() -> Repo:
    return Repo(RepoRef("git", "https://example.org/org/sea", "main"), "a" * 40)


@pytest.fixture
def make(repo: Repo) -> Callable[[Grant], Launch]:
    """What makes a new launch of a grant, as a click does."""

    def launch(grant: Grant) -> Launch:
        id_ = new_launch_id()
        return Launch(id_, user_name("sea", id_), "", repo, VirtualEnvironment("e1", "/e1", "/e1/checkout"), grant)

    return launch


@pytest.fixture
def launch(make: Callable[[Grant], Launch], policy: Policy) -> Launch:
    """A launch under the policy's second rule."""
    return make(Grant("small", policy.rules[1].identity, "Rule 2.", ServerGrant(1, 2**30, 600, 3600)))


class QuickBuilder(Builder):
    """Makes an environment of a folder, when told to go on, and counts."""

    def __init__(self, settings: BuildSettings) -> None:
        super().__init__(settings)
        self.settings = settings
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.found = self.made = self.discarded = 0

    async def find(self, repo: Repo) -> Environment | None:
        self.found += 1
        checkout = self.settings.cache_dir / repo.revision
        return VirtualEnvironment("e1", str(checkout), str(checkout)) if checkout.exists() else None

    async def make(self, repo: Repo) -> AsyncGenerator[BuildEvent, None]:
        self.made += 1
        yield BuildEvent(Phase.BUILDING, "Making it")
        await self.go_on.wait()
        (self.settings.cache_dir / repo.revision).mkdir(parents=True)
        checkout = str(self.settings.cache_dir / repo.revision)
        yield BuildEvent(Phase.BUILT, "Made it", VirtualEnvironment("e1", checkout, checkout))

    async def discard(self, repo: Repo) -> None:
        self.discarded += 1


@pytest.fixture
def builder(tmp_path: Path) -> QuickBuilder:
    return QuickBuilder(BuildSettings(tmp_path / "cache", min_free_bytes=0))


@pytest.fixture
async def rest() -> AsyncIterator[SmallHub]:
    """The hub's REST API."""
    async with small_hub() as running:
        yield running


@pytest.fixture
async def hub(rest: SmallHub) -> AsyncIterator[Hub]:
    """The binder's client of it."""
    client = Hub(rest.url, TOKEN, KEYS)
    yield client
    await client.close()


@pytest.fixture
async def builds(builder: QuickBuilder) -> AsyncIterator[SharedBuilds]:
    shared = SharedBuilds(builder)
    yield shared
    await shared.stop()


@pytest.fixture
async def new_admission(hub: Hub) -> AsyncIterator[NewAdmission]:
    """Make the admission of a binder: of a policy, and for how many seconds launches wait in its queues."""
    made: list[Admission] = []

    def make(policy: Policy, queue_seconds: float = 0) -> Admission:
        made.append(Admission(policy, hub, Queue(queue_seconds)))
        return made[-1]

    yield make
    for each in made:
        await each.close()


@pytest.fixture
def collaborators(policy: Policy, hub: Hub, builds: SharedBuilds, new_admission: NewAdmission) -> Collaborators:
    """What the journey is made with: all real but the hub's other end and the environment."""
    providers = (GitProvider(allow_local=True),)
    return Collaborators(providers, new_admission(policy), builds, hub, KEYS)


@pytest.fixture
def pipeline(collaborators: Collaborators) -> Pipeline:
    return Pipeline(collaborators)


@pytest.fixture
def click(tmp_path: Path) -> Click:
    """A click on a link to a repository that is there."""
    repository(tmp_path / "sea", {"README.md": "Sea"})
    return click_on(tmp_path / "sea")


def click_on(folder: Path, ref: str = "main") -> Click:
    spec = str(folder).replace("/", "%2F")
    return Click("git", f"{spec}/{ref}", "203.0.113.7", "https://binder.example.org/")
