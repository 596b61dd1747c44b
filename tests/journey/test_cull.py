"""The culler ends idle and old sessions by their own tier; a computing session is not idle."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.stack.kernel import Kernel
from tests.stack.local import LocalStack, Session, until
from tests.stack.repository import repository

pytestmark = [pytest.mark.stack, pytest.mark.timeout(600)]

IDLE_SECONDS, AGE_SECONDS, BUSY_SECONDS = 30, 110, 110
POLICY = f"""
tiers:
  idle:
    server: {{cpu: 1, memory: 1G, idle: {IDLE_SECONDS}s, max_age: 1h}}
    dask:
      {{clusters: 1, workers: 1, cores: 1, memory: 1G, worker: {{cores: 1, memory: 1G}}, idle: 10m, start: ready,
       start_workers: 1}}
    storage: {{scratch: 1G, keep: 1d}}
  old:
    server: {{cpu: 1, memory: 1G, idle: {AGE_SECONDS}s, max_age: {AGE_SECONDS}s}}
    dask: none
    storage: none
rules:
  - {{repo: "git/file:///*/old", tier: old}}
  - {{repo: "*", tier: idle}}
"""
SUBMIT = (
    "import os, time\nfrom dask_gateway import Gateway\nfrom distributed import fire_and_forget\n"
    "client = Gateway().connect(os.environ['DASK_GATEWAY_CLUSTER']).get_client()\n"
    f"fire_and_forget(client.submit(time.sleep, {BUSY_SECONDS}))\nprint('submitted')"
)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """A stack whose tiers have short limits."""
    folder = tmp_path_factory.mktemp("cull")
    (folder / "policy.yaml").write_text(POLICY)
    running = LocalStack(folder / "state", "--policy", str(folder / "policy.yaml")).start()
    yield running
    running.stop()


@dataclass(frozen=True)
class Sessions:
    """Sessions launched at the same time, and when their work began."""

    quiet: Session
    busy_kernel: Session
    busy_cluster: Session
    old: Session
    began: float


@pytest.fixture(scope="module")
def sessions(stack: LocalStack) -> Sessions:
    def launched(name: str, code: str) -> Session:
        folder = Path(stack.state_dir).parent / name
        session = stack.launch(repository(folder, {"requirements.txt": "", "README.md": "A session"}))
        if code:
            # at once, because idle sessions end soon here
            with Kernel(session) as kernel:
                kernel.send(code)
        return session

    sleep = "import time; time.sleep({})"
    work = {
        "busy-kernel": sleep.format(BUSY_SECONDS),
        "busy-cluster": SUBMIT,
        "old": sleep.format(AGE_SECONDS * 10),
        "quiet": "",
    }
    with ThreadPoolExecutor(len(work)) as pool:
        busy_kernel, busy_cluster, old, quiet = pool.map(launched, work, work.values())
    return Sessions(quiet, busy_kernel, busy_cluster, old, time.monotonic())


def test_an_idle_session_ends(sessions: Sessions) -> None:
    """Its cluster and credentials end with it, before the cluster's own idle timeout."""
    assert sessions.quiet.clusters()
    sessions.quiet.wait_gone(IDLE_SECONDS + 60)


@pytest.mark.parametrize("which", ["busy_kernel", "busy_cluster"])
def test_a_computing_session_is_kept(sessions: Sessions, which: str) -> None:
    """It still runs after twice the idle time, even if only its cluster works and its kernel is idle."""
    session: Session = getattr(sessions, which)
    while time.monotonic() < sessions.began + 2 * IDLE_SECONDS:
        assert session.user in session.stack.servers(), "a computing session was culled"
        time.sleep(1)


def test_an_old_session_ends_although_it_computes(stack: LocalStack, sessions: Sessions) -> None:
    until("the session is gone", lambda: sessions.old.user not in stack.servers(), AGE_SECONDS + 60)
    until("its processes are gone", lambda: not stack.processes(sessions.old.id), 30)


@pytest.mark.parametrize("which", ["busy_kernel", "busy_cluster"])
def test_a_session_ends_after_its_computation(sessions: Sessions, which: str) -> None:
    getattr(sessions, which).wait_gone(BUSY_SECONDS + IDLE_SECONDS + 60)


def test_users_without_a_server_are_removed(stack: LocalStack, sessions: Sessions) -> None:
    token = stack.values.secrets.status_token
    until("no user is left", lambda: stack.hub("GET", "/users", token).json == [], 150)
