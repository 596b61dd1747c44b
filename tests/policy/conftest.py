"""A policy with one of everything, and launches that run under it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import settings

from pangeo_binder.model import ContainerImage, Grant, Launch, Repo, RepoRef
from pangeo_binder.policy.counters import add, find_full, takes
from pangeo_binder.policy.load import load_policy
from pangeo_binder.policy.match import Question, terms
from pangeo_binder.policy.model import Policy

EXAMPLE = """\
total: {servers: 6, dask_cores: 120}
catalogue:
  cmip6: {url: s3://cmip6-pds, region: us-west-2}
  sst: {url: gs://sst/v2}
tiers:
  anonymous: {server: {cpu: 1, memory: 2G, idle: 10m, max_age: 3h}, dask: none, storage: {scratch: 1G, keep: 1d}}
  pangeo:
    server: {cpu: 2, memory: 8G, idle: 15m, max_age: 8h}
    dask:
      {clusters: 1, workers: 20, cores: 40, memory: 160G, worker: {cores: 2, memory: 8G}, idle: 10m, start: ready}
    storage: {scratch: 50G, keep: 7d, read: [cmip6, sst], egress: 200G}
rules:
  - {repo: "gh/cryptoking/*", deny: "This repository is not allowed here."}
  - {repo: [gh/pangeo-gallery/*, gl/pangeo/*], tier: pangeo, servers: 3, dask_cores: 80}
  - {repo: "*", user: logged-in, tier: pangeo}
  - {repo: "*", tier: anonymous, servers: 4, per_network: 2}
"""


def admit(policy: Policy, question: Question, running: Sequence[Launch]) -> Grant:
    """Return what `question` is granted while `running` are there, as binder and hub decide it together."""
    asked = terms(policy, question)
    used = add({}, (takes(launch.grant, launch.network, launch.person) for launch in running))
    full = find_full(asked.limits, asked.takes, used)
    if full is not None:
        raise asked.refusal(full)
    return asked.grant


@pytest.fixture
def policy_file(tmp_path: Path) -> Callable[[str | bytes], Path]:
    """Write a policy file."""

    def write(content: str | bytes) -> Path:
        path = tmp_path / "policy.yaml"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


@pytest.fixture
def example_text() -> str:
    """A policy with one of everything, as a file holds it."""
    return EXAMPLE


@pytest.fixture
def policy(policy_file: Callable[[str], Path]) -> Policy:
    """A policy with one of everything."""
    return load_policy(policy_file(EXAMPLE))


@pytest.fixture
def launch_with() -> Callable[..., Launch]:
    """Make a running launch of a grant."""

    def make(grant: Grant, network: str = "203.0.113.1") -> Launch:
        repo = Repo(RepoRef("git", "https://example.org/a/b", "HEAD"), "0" * 40)
        return Launch("a" * 12, "b-aaaaaaaaaaaa", "", repo, ContainerImage("e", "e@sha256:0"), grant, network)

    return make


settings.register_profile("unhurried", deadline=None)  # the machine's other work must not fail a test
settings.load_profile("unhurried")
