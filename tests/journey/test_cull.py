"""Sessions end when they are idle or old, by their own tier; a session that computes is not idle."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stack.kernel import Kernel
from tests.stack.local import LocalStack, Session, until
from tests.stack.repository import repository

pytestmark = [pytest.mark.stack, pytest.mark.timeout(600)]

IDLE_SECONDS, AGE_SECONDS, BUSY_SECONDS = 20, 60, 60
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
  - {{repo: "*/old", tier: old}}
  - {{repo: "*", tier: idle}}
"""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """A stack whose tiers are impatient."""
    folder = tmp_path_factory.mktemp("cull")
    (folder / "policy.yaml").write_text(POLICY)
    running = LocalStack(folder / "state", "--policy", str(folder / "policy.yaml")).start()
    yield running
    running.stop()


def launched(stack: LocalStack, name: str) -> Session:
    folder = Path(stack.state_dir).parent / name
    return stack.launch(repository(folder, {"requirements.txt": "", "README.md": name}))


def seconds_until_gone(session: Session, at_most: float) -> float:
    began = time.monotonic()
    session.wait_gone(at_most)
    return time.monotonic() - began


def test_an_idle_session_ends(stack: LocalStack) -> None:
    """Its cluster and credentials end with it, though the cluster's own idle time is not over."""
    session = launched(stack, "quiet")
    assert session.clusters()
    session.wait_gone(IDLE_SECONDS + 60)


def test_a_busy_kernel_is_activity(stack: LocalStack) -> None:
    session = launched(stack, "busy-kernel")
    with Kernel(session) as kernel:
        kernel.send(f"import time; time.sleep({BUSY_SECONDS})")
    assert_kept_while_busy(session)


def test_a_busy_cluster_is_activity(stack: LocalStack) -> None:
    """The kernel is idle: only the cluster works."""
    session = launched(stack, "busy-cluster")
    with Kernel(session) as kernel:
        kernel.value(
            "import os, time\nfrom dask_gateway import Gateway\nfrom distributed import fire_and_forget\n"
            "client = Gateway().connect(os.environ['DASK_GATEWAY_CLUSTER']).get_client()\n"
            f"fire_and_forget(client.submit(time.sleep, {BUSY_SECONDS}))\nprint('submitted')"
        )
    assert_kept_while_busy(session)


def assert_kept_while_busy(session: Session) -> None:
    """It is there after twice the idle time, and gone once it has done and been idle."""
    busy_until = time.monotonic() + BUSY_SECONDS - 15
    while time.monotonic() < busy_until:
        assert session.user in session.stack.servers(), "a computing session was culled"
        time.sleep(2)
    session.wait_gone(IDLE_SECONDS + 90)


def test_an_old_session_ends_though_it_works(stack: LocalStack) -> None:
    session = launched(stack, "old")
    with Kernel(session) as kernel:
        kernel.send(f"import time; time.sleep({AGE_SECONDS * 10})")
        until("the session is gone", lambda: session.user not in stack.servers(), AGE_SECONDS + 60)
        until("its processes are gone", lambda: not stack.processes(session.id), 30)


def test_users_without_a_server_are_removed(stack: LocalStack) -> None:
    token = stack.values.secrets.status_token
    until("no user is left", lambda: stack.hub("GET", "/users", token).json == [], 150)
