"""The culler ends idle and old sessions by their own tier; a computing session is not idle."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
import websocket

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
WRITE = f"for step in $(seq {BUSY_SECONDS // 5}); do echo step $step; sleep 5; done\r"


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
    """With an open terminal and an idle cluster."""
    busy_kernel: Session
    busy_cluster: Session
    busy_terminal: Session
    old: Session
    began: float


def type_in_terminal(session: Session, line: str) -> None:
    """Open a terminal, type `line` and close the terminal's page, as a user does with a tab."""
    name = session.request("api/terminals", "POST").json["name"]
    url = f"{session.url.replace('http://', 'ws://')}terminals/websocket/{name}"
    page = websocket.create_connection(url, header=[f"Authorization: token {session.token}"], timeout=30)
    page.send(json.dumps(["stdin", line]))
    while json.loads(page.recv())[0] != "stdout":
        pass
    page.close()


@pytest.fixture(scope="module")
def sessions(stack: LocalStack) -> Sessions:
    def launched(name: str, work: str) -> Session:
        folder = Path(stack.state_dir).parent / name
        session = stack.launch(repository(folder, {"requirements.txt": "", "README.md": "A session"}))
        # at once, because idle sessions end soon here
        if name in ("quiet", "busy-terminal"):
            type_in_terminal(session, work)
        else:
            with Kernel(session) as kernel:
                kernel.send(work)
        return session

    sleep = "import time; time.sleep({})"
    work = {
        "busy-kernel": sleep.format(BUSY_SECONDS),
        "busy-cluster": SUBMIT,
        "busy-terminal": WRITE,
        "old": sleep.format(AGE_SECONDS * 10),
        "quiet": f"sleep {AGE_SECONDS * 10}\r",
    }
    with ThreadPoolExecutor(len(work)) as pool:
        busy_kernel, busy_cluster, busy_terminal, old, quiet = pool.map(launched, work, work.values())
    return Sessions(quiet, busy_kernel, busy_cluster, busy_terminal, old, time.monotonic())


def test_an_idle_session_ends(sessions: Sessions) -> None:
    """Its cluster and credentials end with it, before the cluster's own idle timeout. None of its parts works."""
    assert sessions.quiet.clusters()
    sessions.quiet.wait_gone(IDLE_SECONDS + 60)


@pytest.mark.parametrize("which", ["busy_kernel", "busy_cluster", "busy_terminal"])
def test_a_computing_session_is_kept(sessions: Sessions, which: str) -> None:
    """It still runs after twice the idle time, even if only its cluster or its terminal works and no page is open."""
    session: Session = getattr(sessions, which)
    while time.monotonic() < sessions.began + 2 * IDLE_SECONDS:
        assert session.user in session.stack.servers(), "a computing session was culled"
        time.sleep(1)


def test_an_old_session_ends_although_it_computes(stack: LocalStack, sessions: Sessions) -> None:
    until("the session is gone", lambda: sessions.old.user not in stack.servers(), AGE_SECONDS + 60)
    until("its processes are gone", lambda: not stack.processes(sessions.old.id), 30)


@pytest.mark.parametrize("which", ["busy_kernel", "busy_cluster", "busy_terminal"])
def test_a_session_ends_after_its_computation(sessions: Sessions, which: str) -> None:
    getattr(sessions, which).wait_gone(BUSY_SECONDS + IDLE_SECONDS + 60)


def test_users_without_a_server_are_removed(stack: LocalStack, sessions: Sessions) -> None:
    token = stack.values.secrets.status_token
    until("no user is left", lambda: stack.hub("GET", "/users", token).json == [], 150)
