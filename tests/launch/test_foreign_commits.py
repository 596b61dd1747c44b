"""A repository's tier is not to be had with somebody else's commit, and who has it is not kept waiting for that."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pytest

from pangeo_binder.errors import RepoNotFound
from pangeo_binder.events import Event, Phase
from pangeo_binder.launch import admission as module
from pangeo_binder.launch.pipeline import Collaborators, Pipeline
from pangeo_binder.model import Click, Grant, Repo
from pangeo_binder.policy.load import load_policy
from pangeo_binder.repos.base import Provenance
from pangeo_binder.repos.git import GitProvider
from tests.launch.conftest import NewAdmission
from tests.repos.gitrepo import Parent, make_parent
from tests.repos.gitserver import LOOPBACK

POLICY = """
tiers:
  small: {server: {cpu: 1, memory: 1G, idle: 10m, max_age: 1h}, dask: none, storage: none}
  large: {server: {cpu: 8, memory: 8G, idle: 10m, max_age: 9h}, dask: none, storage: none}
rules:
  - {repo: [git/URL/git/parent, git/URL/to/*], tier: large}
  - {repo: "*", tier: small, servers: SEATS}
"""


class CountingProvider(GitProvider):
    """Counts how often it searches."""

    searched = 0

    async def find_provenance(self, repo: Repo) -> Provenance:
        self.searched += 1
        return await super().find_provenance(repo)


@pytest.fixture
def parent(tmp_path: Path) -> Parent:
    return make_parent(tmp_path / "parent")


@pytest.fixture
def provider() -> CountingProvider:
    return CountingProvider(addresses=LOOPBACK)


@pytest.fixture(params=[9], ids=[""])
def pipeline(
    collaborators: Collaborators,
    provider: CountingProvider,
    new_admission: NewAdmission,
    git_server: str,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> Pipeline:
    """A journey under a policy that names the parent, and has few seats for all others."""
    path = tmp_path / "own.yaml"
    path.write_text(POLICY.replace("URL", git_server).replace("SEATS", str(request.param)))
    admission = new_admission(load_policy(path), 60)
    return Pipeline(replace(collaborators, providers=(provider,), admission=admission))


def click_on(url: str, ref: str) -> Click:
    return Click("git", f"{quote(url, safe='')}/{ref}", "203.0.113.7", "https://binder.example.org/")


async def events(pipeline: Pipeline, url: str, ref: str) -> list[Event]:
    async with aclosing(pipeline.run(click_on(url, ref))) as running:
        return [event async for event in running]


async def granted(pipeline: Pipeline, url: str, ref: str) -> Grant:
    last = (await events(pipeline, url, ref))[-1]
    assert last.phase is Phase.READY and last.launch is not None
    return last.launch.grant


async def test_its_own_commits_get_the_repositorys_tier(pipeline: Pipeline, parent: Parent, git_server: str) -> None:
    for ref in ("HEAD", "main", "v1", "refs/pull/2/head", parent.tip, parent.old, parent.tagged):
        grant = await granted(pipeline, f"{git_server}/git/parent", ref)
        assert grant.tier == "large" and grant.reason.endswith(" gives the tier large."), ref


@pytest.mark.parametrize("spelled", ["parent", "parent.git", "PARENT"])
async def test_a_forks_commit_gets_what_anybody_gets(
    pipeline: Pipeline, parent: Parent, git_server: str, spelled: str
) -> None:
    if not (parent.path.parent / spelled).exists():
        (parent.path.parent / spelled).symlink_to(parent.path)
    for ref in (parent.foreign, parent.foreign.upper(), "refs/pull/1/head"):
        grant = await granted(pipeline, f"{git_server}/git/{spelled}", ref)
        assert grant.tier == "small", ref
        assert grant.reason.startswith("Rule 2 (*) gives the tier small. The commit is on no branch or tag of the")


async def test_a_room_that_clicks_on_one_commit_is_one_search(
    pipeline: Pipeline, provider: CountingProvider, parent: Parent, git_server: str
) -> None:
    url = f"{git_server}/git/parent"
    grants = await asyncio.gather(*(granted(pipeline, url, parent.old) for _ in range(30)))
    assert {grant.tier for grant in grants} == {"large"} and provider.searched == 1
    messages = [event.message for event in await events(pipeline, url, parent.old)]
    assert provider.searched == 1 and not any(message.startswith("Looking for the commit") for message in messages)


async def test_a_search_is_told(pipeline: Pipeline, parent: Parent, git_server: str) -> None:
    found = await events(pipeline, f"{git_server}/git/parent", parent.old)
    assert found[1].message == "Looking for the commit on the branches and tags of parent\n"


async def test_where_no_rule_names_the_repository_nothing_is_searched(
    pipeline: Pipeline, provider: CountingProvider, parent: Parent, git_server: str
) -> None:
    (parent.path.parent / "other").symlink_to(parent.path)
    for commit in (parent.old, parent.foreign):
        grant = await granted(pipeline, f"{git_server}/git/other", commit)
        assert (grant.tier, grant.reason) == ("small", "Rule 2 (*) gives the tier small.")
    assert provider.searched == 0


@pytest.mark.parametrize("ref", ["main", "old"])
async def test_a_redirect_to_another_host_gets_what_anybody_gets(
    pipeline: Pipeline, parent: Parent, git_server: str, ref: str
) -> None:
    commit = parent.old if ref == "old" else ref
    there = await granted(pipeline, f"{git_server}/to/localhost/git/parent", commit)
    assert there.tier == "small" and "The address leads to http://localhost:" in there.reason
    port = git_server.rpartition(":")[2]
    back = await granted(pipeline, f"http://localhost:{port}/to/127.0.0.1/git/parent", commit)
    assert (back.tier, back.reason) == ("small", "Rule 2 (*) gives the tier small.")
    assert (await granted(pipeline, f"{git_server}/to/127.0.0.1/git/parent", commit)).tier == "large"


@pytest.mark.parametrize("pipeline", [1], indirect=True)
async def test_those_who_wait_with_a_forks_commit_hold_up_nobody(
    pipeline: Pipeline, parent: Parent, git_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "POLL_SECONDS", 0.05)
    url = f"{git_server}/git/parent"
    assert (await granted(pipeline, url, parent.foreign)).tier == "small"
    async with aclosing(pipeline.run(click_on(url, parent.foreign))) as waiting:
        async for event in waiting:
            if event.position:
                break
        assert (await asyncio.wait_for(granted(pipeline, url, "main"), 60)).tier == "large"


async def test_what_cannot_be_found_out_ends_the_launch_with_a_sentence(
    pipeline: Pipeline, parent: Parent, git_server: str
) -> None:
    (parent.path / "objects" / parent.old[:2] / parent.old[2:]).unlink()
    with pytest.raises(RepoNotFound, match="did not send the history that is needed to find the link's commit"):
        await granted(pipeline, f"{git_server}/git/parent", parent.tagged)
