"""The measured stack: the real command `up`, in a temporary directory, with a policy for the measurements."""

from __future__ import annotations

import shutil
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from prometheus_client.parser import text_string_to_metric_families

from pangeo_binder.deploy.local.examples import example_repositories, make_repositories
from pangeo_binder.model import Environment, Launch, RepoRef
from pangeo_binder.names import new_launch_id, user_name
from pangeo_binder.policy.load import load_policy
from pangeo_binder.policy.match import Question, terms
from pangeo_binder.ticket import sign
from tests.stack.local import LocalStack

from .repositories import builder, commit_of, files, make_repository, put_environment

SLOW_SECONDS = 30.0
TEN_SECONDS = 10.0
_WEDGED_SECONDS = 3600.0
LOG_LINES = 500
_IDLE_SECONDS = 180

_POLICY = """
total: {{servers: 2000, dask_cores: 2000}}
tiers:
  bare: {{server: {{cpu: 1, memory: 1G, idle: 1h, max_age: 2h}}, dask: none, storage: none}}
  full:
    server: {{cpu: 2, memory: 4G, idle: 1h, max_age: 12h}}
    dask:
      clusters: 1
      workers: 4
      cores: 4
      memory: 8G
      worker: {{cores: 1, memory: 2G}}
      idle: 30m
      start: try
      start_workers: 1
    storage: {{scratch: 10G, keep: 1d}}
  stored:
    server: {{cpu: 1, memory: 1G, idle: 1h, max_age: 2h}}
    dask: none
    storage: {{scratch: 50G, keep: 1d}}
rules:
  - {{repo: "git/{full}", tier: full}}
  - {{repo: "git/{stored}", tier: stored}}
  - {{repo: "*", tier: bare}}
"""


@dataclass(frozen=True, slots=True)
class Repositories:
    """The repositories that scenarios launch."""

    bare: RepoRef
    """Built; its tier has neither Dask nor storage."""
    slow: RepoRef
    """As `bare`, with a server that listens after `SLOW_SECONDS`."""
    ten: RepoRef
    """As `slow`, after `TEN_SECONDS`."""
    wedged: RepoRef
    """As `slow`, but it never listens while a benchmark runs."""
    stored: RepoRef
    """As `bare`, in a tier with scratch storage."""
    full: RepoRef
    """Not built; the local profile's own tier."""
    logging: RepoRef
    """Not built; its build prints 500 lines within about five seconds."""


class MeasuredStack:
    """A running stack, and access to it for measurements from outside."""

    def __init__(self, local: LocalStack, policy: Path, repositories: Repositories) -> None:
        self._local = local
        self._policy = load_policy(policy)
        self.repositories = repositories
        self.values = local.values
        self.binder_url = f"http://127.0.0.1:{self.values.ports.binder}/"
        self.login = local.login
        self.binder = local.service("pangeo_binder.app")
        self.hub = local.service("-m jupyterhub ")
        # the hub creates it at each start and stores it nowhere, so only the binder's process has it
        self.binder_token = self.binder.environ()["JUPYTERHUB_API_TOKEN"]

    def metrics(self) -> dict[str, float]:
        """Return the binder's own series, by name and label values: `launch_stage_seconds_sum resolve`."""
        asked = urllib.request.Request(f"{self.binder_url}metrics", headers=self.login)
        with urllib.request.urlopen(asked, timeout=30) as response:
            text = response.read().decode()
        prefix = "pangeo_binder_"
        return {
            " ".join([sample.name.removeprefix(prefix), *sample.labels.values()]): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name.startswith(prefix)
        }

    def ticket(self, ref: RepoRef, environment: Environment) -> tuple[Launch, str]:
        """Return a launch of `ref` that did not pass the binder, with its ticket."""
        id_ = new_launch_id()
        grant = terms(self._policy, Question(ref, None, "127.0.0.1")).grant
        user = user_name(ref.name, id_)
        launch = Launch(id_, user, "", commit_of(ref), environment, grant, "127.0.0.1")
        return launch, sign(launch, self.values.secrets.ticket_keys, time.time())

    async def environment(self, ref: RepoRef) -> Environment:
        """Return the environment of `ref`, which must be built."""
        found = await builder(self.values.folder("cache")).find(commit_of(ref))
        assert found is not None, f"{ref.name} is not built"
        return found

    def session_environment(self, user: str) -> dict[str, str]:
        """Return the environment variables of the running server of `user`."""
        found = self._local.processes(user.rpartition("-")[2])
        assert found, f"the server of {user} does not run"
        return found[0].environ()

    def wait_idle(self) -> None:
        """Wait until no server and no build is left."""
        deadline = time.monotonic() + _IDLE_SECONDS
        while time.monotonic() < deadline:
            if not self._local.servers() and not self.metrics()["builds_in_progress"]:
                return
            time.sleep(0.5)
        raise TimeoutError(f"the stack was not idle within {_IDLE_SECONDS} s")


@contextmanager
def measured_stack() -> Iterator[MeasuredStack]:
    """Start a stack, yield it, stop it, and leave nothing behind."""
    folder = Path(tempfile.mkdtemp(prefix="pangeo-binder-benchmark-"))
    try:
        repositories = _repositories(folder / "repositories")
        policy = folder / "policy.yaml"
        policy.write_text(_POLICY.format(full=repositories.full.url, stored=repositories.stored.url))
        state = folder / "state"
        _prepare_cache(state, repositories)
        local = LocalStack(state, "--policy", str(policy)).start()
        try:
            yield MeasuredStack(local, policy, repositories)
        finally:
            local.stop()
            _report(local.processes())
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _repositories(folder: Path) -> Repositories:
    return Repositories(
        bare=make_repository(folder / "bare", files()),
        slow=make_repository(folder / "slow", files(slow_seconds=SLOW_SECONDS)),
        ten=make_repository(folder / "ten", files(slow_seconds=TEN_SECONDS)),
        wedged=make_repository(folder / "wedged", files(slow_seconds=_WEDGED_SECONDS)),
        stored=make_repository(folder / "stored", files()),
        full=make_repository(folder / "full", files()),
        logging=make_repository(folder / "logging", files(log_lines=LOG_LINES)),
    )


def _prepare_cache(state: Path, repositories: Repositories) -> None:
    """Put environments into the binder's cache, also the example's, which the binder would build at its start."""
    make_repositories(state / "examples")
    example = RepoRef("git", example_repositories(state / "examples")[0].url, "HEAD")
    built = (repositories.bare, repositories.slow, repositories.ten, repositories.wedged, repositories.stored)
    for ref in (*built, example):
        put_environment(ref, state / "cache")


def _report(left: list[psutil.Process]) -> None:
    if left:
        print(f"The stack left {len(left)} processes behind.")
