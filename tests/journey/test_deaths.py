"""kill -9 of each part while a session computes: what remains is what docs/operate.md says."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.stack.escaped import Escaped
from tests.stack.kernel import Kernel
from tests.stack.local import LocalStack, Session, until

pytestmark = [pytest.mark.stack, pytest.mark.timeout(600)]

ATTACH = (
    "import os, threading, time, s3fs\n"
    "from dask_gateway import Gateway\n"
    "gateway = Gateway()\n"
    "cluster = gateway.connect(os.environ['DASK_GATEWAY_CLUSTER'])\n"
    "client = cluster.get_client()\n"
    "client.wait_for_workers(1, timeout=240)\n"
)
COMPUTE = (
    "def slow(i):\n    import time\n    time.sleep(0.5)\n    return i\n"
    "done, wrong, on = [], [], True\n"
    "def compute():\n"
    "    while on:\n"
    "        try:\n            done.append(client.submit(slow, len(done), pure=False).result(timeout=60))\n"
    "        except Exception as error:\n            wrong.append(type(error).__name__)\n            return\n"
    "thread = threading.Thread(target=compute)\nthread.start()\n"
)
FINISH = (
    "goal = len(done) + 3\n"
    "while len(done) < goal and thread.is_alive():\n    time.sleep(0.1)\n"
    "on = False\nthread.join(90)\nprint(len(done) >= goal, wrong)"
)
USE = (
    "fs = s3fs.S3FileSystem(skip_instance_cache=True)\n"
    "fs.pipe(os.environ['SCRATCH_BUCKET'] + '/after', b'written')\n"
    "print(client.submit(slow, 7, pure=False).result(timeout=60), fs.cat(os.environ['SCRATCH_BUCKET'] + '/after'))"
)


@pytest.fixture(scope="module")
def session(stack: LocalStack) -> Iterator[Session]:
    running = stack.launch(stack.example("minimal"))
    with Kernel(running) as kernel:
        kernel.value(ATTACH, seconds=260)
    yield running
    running.stop()


@pytest.fixture
def escaped() -> Iterator[tuple[Escaped, Escaped]]:
    """Two processes to start that shed everything by which they could be found."""
    made = (Escaped(), Escaped())
    yield made
    for each in made:
        each.end()


def pids(stack: LocalStack, session: Session) -> set[int]:
    """The session's server, scheduler and workers (not kernels and helpers, which come and go)."""
    words = ("jupyter-lab", "dask_scheduler", "dask_worker")
    return {process.pid for word in words for process in stack.running(word, session.id)}


@pytest.mark.parametrize(
    ("word", "client_stays"),
    [
        ("pangeo_binder.app", True),
        ("jupyterhub -f", True),
        ("traefik --", True),
        ("pangeo_binder.deploy.local.storage", True),
        ("gateway.server -f", True),
        # it carries the client's connection; distributed forgets a client's futures with its connection
        ("dask-gateway-proxy -", False),
    ],
)
def test_a_session_outlives_a_service(stack: LocalStack, session: Session, word: str, client_stays: bool) -> None:
    """The service restarts, the session's processes stay, and its cluster and storage still work."""
    with Kernel(session) as kernel:
        kernel.value(ATTACH + COMPUTE, seconds=260)
        before, victim = pids(stack, session), stack.service(word)
        assert len(before) >= 3
        victim.send_signal(signal.SIGKILL)
        until("the service is back", lambda: stack.service(word).pid != victim.pid, 60)
        until("the stack is healthy", stack.is_healthy, 60)
    with Kernel(session, same=kernel.id) as again:
        finished = again.value(FINISH, seconds=120)
        assert not client_stays or finished == "True []"
        again.value(ATTACH, seconds=120)
        assert again.value(USE, seconds=120) == "7 b'written'"
    assert pids(stack, session) == before
    until("the hub knows the server", lambda: session.user in stack.servers(), 30)


def test_a_new_launch_works_after_the_kills(stack: LocalStack, session: Session) -> None:
    """The binder reuses the environment and builds nothing a second time."""
    environments = stack.state_dir / "cache" / "environments"
    before = {path.name for path in environments.iterdir()}
    stack.launch(stack.example("minimal")).stop()
    assert {path.name for path in environments.iterdir()} == before


def test_a_killed_scheduler_is_reported_and_can_be_replaced(session: Session, stack: LocalStack) -> None:
    with Kernel(session) as kernel:
        kernel.value(ATTACH, seconds=120)
        name = kernel.value("print(os.environ['DASK_GATEWAY_CLUSTER'])")
        scheduler = stack.running("dask_scheduler", session.id)[0]
        scheduler.send_signal(signal.SIGKILL)
        until("the gateway has noticed", lambda: not session.clusters(), 90)
        output = kernel.run("gateway.connect(os.environ['DASK_GATEWAY_CLUSTER'])")
        assert f"The scheduler of cluster {name} ended by itself" in output.error, output.error
        made = kernel.run("print(gateway.new_cluster(shutdown_on_close=False).name)", seconds=200)
        assert not made.error, made.error


def test_everything_of_a_killed_server_is_removed(stack: LocalStack, escaped: tuple[Escaped, Escaped]) -> None:
    """kill -9, so nothing in the server or the worker can clean up."""
    session = stack.launch(stack.example("minimal"))
    of_kernel, of_worker = escaped
    with Kernel(session) as kernel:
        kernel.value(ATTACH, seconds=260)
        kernel.value(f"import subprocess; subprocess.run({of_kernel.command!r}, shell=True, check=True)")
        kernel.value(f"client.submit(subprocess.run, {of_worker.command!r}, shell=True, check=True).result(timeout=60)")
        assert of_kernel.runs() and of_worker.runs()
        stack.running("dask_worker", session.id)[0].send_signal(signal.SIGKILL)
        until("what the worker started has ended", lambda: not of_worker.runs(), 30)
        stack.running("jupyter-lab", session.id)[0].send_signal(signal.SIGKILL)
        session.wait_gone(30)
    assert not of_kernel.runs()


@pytest.mark.parametrize("word", ["jupyterhub -f", "traefik --"])
def test_a_launch_during_a_restart_says_what_happened_and_its_page_continues(stack: LocalStack, word: str) -> None:
    """It succeeds, or ends with a sentence and a hint, or its connection breaks; the same link then works again."""
    victim, phases, last = stack.service(word), list[str](), {"phase": ""}
    with suppress(OSError, ValueError):  # the connection breaks with its binder, which the hub restarts with itself
        for last in stack.events(stack.example("minimal")):
            phases.append(last["phase"])
            if phases.count("launching") == 1 and last["phase"] == "launching":
                victim.send_signal(signal.SIGKILL)
    assert "launching" in phases
    assert last["phase"] != "failed" or (last["hint"] and "internal error" not in last["message"]), last
    until("the stack is healthy", stack.is_healthy, 60)

    def ready() -> Session | None:
        with suppress(OSError, ValueError):
            event = stack.last_event(stack.example("minimal"))
            return Session(stack, event) if event["phase"] == "ready" else None
        return None

    session = until("the page continues", ready, 120)
    assert session.request("api/status").status == 200
    session.stop()
    if last["phase"] == "ready":
        Session(stack, last).stop()
