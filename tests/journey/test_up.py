"""The command `up`: what it prints, where it listens, and how it cleans up after a kill."""

from __future__ import annotations

import os
import pty
import re
import signal
import stat
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from pangeo_binder.local.processes import end_all
from tests.stack.escaped import Escaped
from tests.stack.kernel import Kernel
from tests.stack.local import LocalStack, Session, request, until

pytestmark = [pytest.mark.stack, pytest.mark.timeout(400)]


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[LocalStack]:
    """A stack to start; stopped at the end also if its test failed."""
    made = LocalStack(tmp_path / "state")
    yield made
    made.stop()
    end_all(str(made.state_dir))  # if `up` was killed, its control group is left


@pytest.fixture
def escaped() -> Iterator[Escaped]:
    """A process to start that sheds everything by which it could be found."""
    made = Escaped()
    yield made
    made.end()


def escape(session: Session, escaped: Escaped) -> None:
    """Start `escaped` in a session's kernel."""
    with Kernel(session) as kernel:
        kernel.value(f"import subprocess; subprocess.run({escaped.command!r}, shell=True, check=True)")
    assert escaped.runs()


def test_the_next_up_cleans_up_after_a_killed_stack(stack: LocalStack, escaped: Escaped) -> None:
    """Also if the hub is killed with `up`, and nothing ends the sessions."""
    stack.start()
    assert re.search(r"Processes of a session are found by their (control group|ancestor)\.", stack.output.read_text())
    session = stack.launch(stack.example("minimal"))
    until("its cluster runs", session.clusters, 60)
    escape(session, escaped)
    left = {process.pid for process in stack.processes(session.id)}
    # killed one after the other, `up` would restart the hub, or the hub or the launchers would end the sessions
    for each in (*stack.launchers(session.id), hub := stack.service("jupyterhub -f"), stack.process):
        each.send_signal(signal.SIGSTOP)
    for each in (hub, stack.process):
        each.send_signal(signal.SIGKILL)
    stack.process.wait(timeout=10)
    until("the services have ended with their parents", lambda: not stack.processes(), 30)
    assert stack.running("jupyter-lab", session.id) and escaped.runs(), "the session itself was not killed"
    stack.start()
    try:
        assert "left by an earlier run" in stack.output.read_text()
        assert not left & {process.pid for process in stack.processes(session.id)}
        assert not escaped.runs()
        assert stack.servers() == {}
        assert stack.launch(stack.example("minimal")).request("api/status").status == 200
    finally:
        stack.stop()
    assert not stack.processes()


def test_everything_ends_with_a_killed_up(stack: LocalStack, escaped: Escaped) -> None:
    """Launchers wait for the end of `up`, so the hub may die with it."""
    stack.start()
    session = stack.launch(stack.example("minimal"))
    until("its cluster runs", session.clusters, 60)
    escape(session, escaped)
    killed = (stack.process, stack.service("jupyterhub -f"))
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for each in killed:
            each.send_signal(number)
    stack.process.wait(timeout=10)
    until("the services have ended", lambda: not stack.processes(), 60)
    until("the session has ended", lambda: not stack.processes(session.id) and not escaped.runs(), 60)


def test_a_stop_ends_hung_processes(stack: LocalStack, escaped: Escaped) -> None:
    stack.start()
    session = stack.launch(stack.example("minimal"))
    escape(session, escaped)
    for process in (*stack.processes(), *stack.processes(session.id)):
        process.suspend()
    stack.stop()
    assert not stack.processes() and not stack.processes(session.id) and not escaped.runs()


def test_the_end_of_the_terminal_stops_everything(stack: LocalStack) -> None:
    """The kernel sends SIGHUP to the processes of a terminal that is closed; nothing can be printed any more."""
    terminal, theirs = pty.openpty()
    try:
        stack.start(terminal=theirs)
    finally:
        os.close(theirs)
    session = stack.launch(stack.example("minimal"))
    os.close(terminal)
    assert stack.process.wait(timeout=60) == 0
    assert not stack.processes()
    assert not stack.processes(session.id)
    assert not (stack.state_dir / "run").exists(), "it was stopped in order"


def test_nothing_is_left_of_a_server_that_was_starting_when_the_hub_was_killed(stack: LocalStack) -> None:
    stack.start()
    try:
        stack.launch(stack.example("minimal")).stop()  # so that the next launch builds nothing
        events = iter(stack.events(stack.example("minimal")))
        follower = threading.Thread(target=lambda: list(events), daemon=True)
        follower.start()
        launch = until("its server's process has started", lambda: starting(stack), 60)
        stack.service("jupyterhub -f").kill()
        until("the processes are gone", lambda: not stack.processes(launch), 120)
        until("the home is gone", lambda: not list((stack.state_dir / "homes").iterdir()), 10)
        until("the stack is healthy", stack.is_healthy, 60)
        assert stack.servers() == {}
        follower.join(60)
    finally:
        stack.stop()


def starting(stack: LocalStack) -> str:
    """Return the launch whose server's process runs but does not listen yet; empty if there is none."""
    for record in (stack.state_dir / "run" / "launches").iterdir():
        if stack.running("jupyter-lab", record.name):
            return record.name
    return ""


def test_up_prints_all_addresses_and_answers(stack: LocalStack) -> None:
    stack.start()
    try:
        output = stack.output.read_text()
        for part in (f"{stack.url}?token=", stack.address, "v2/git/", "[![", "badge", str(stack.state_dir)):
            assert part in output.replace("\n", "")
        for path in ("", "health", "versions", "metrics"):
            assert stack.page(path).status == 200
            assert request(f"{stack.url}{path}").status == (200 if path == "health" else 403)
        links = [line.split()[-1] for line in output.splitlines() if line.startswith("Example:")]
        browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
        for link in (stack.address, *links):
            with browser.open(link, timeout=60) as response:
                assert response.status == 200 and "token=" not in response.url
        assert len(links) == 2
        assert stat.S_IMODE((stack.state_dir / "values.json").stat().st_mode) == 0o600
        until(
            "the first example is built",
            lambda: list(stack.state_dir.glob("cache/environments/*/environment.json")),
            120,
        )
    finally:
        stack.stop()


def test_everything_listens_only_on_loopback(stack: LocalStack) -> None:
    """The services, and a session with its kernel, scheduler and workers."""
    stack.start()
    try:
        session = stack.launch(stack.example("minimal"))
        until("its cluster has a worker", lambda: any(each["workers"] for each in session.clusters()), 60)
        with Kernel(session):
            found = {name: listening(stack.running(word, launch)) for name, word, launch in listeners(session)}
        assert all(found.values()), f"each of them listens: {found}"
        everything = listening([*stack.processes(), *stack.processes(session.id)])
        assert set(everything) == {"127.0.0.1"}
    finally:
        stack.stop()


def listeners(session: Session) -> list[tuple[str, str, str | None]]:
    """Return the kinds of process that listen: name, word in the command line, launch."""
    services = ("pangeo_binder.app", "jupyterhub -f", "traefik --", "local.storage", "gateway.server -f")
    of_session = ("jupyter-lab", "ipykernel", "dask_scheduler", "dask_worker")
    return [
        *((word, word, None) for word in (*services, "dask-gateway-proxy -")),
        *((word, word, session.id) for word in of_session),
    ]


def listening(processes: list[psutil.Process]) -> list[str]:
    """Return the addresses on which `processes` listen."""
    return [
        connection.laddr.ip
        for process in processes
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
