"""Test stopping and killing a binder in each phase of a launch, and the pages that connect again afterwards."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import AsyncIterator, Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path

import aiohttp
import pytest

from pangeo_binder.hub.admissions import AdmissionTable
from tests.app.binderprocess import BinderProcess, Follower
from tests.launch.hubserver import SmallHub, small_hub
from tests.repos.gitserver import GitHandler, serving
from tests.stack.repository import repository

pytestmark = pytest.mark.processes

READY = {"progress": 100, "ready": True}


@pytest.fixture
async def hub() -> AsyncIterator[SmallHub]:
    """A hub whose servers need until `come_up`."""
    slow = SmallHub(says=({"progress": 50, "message": "Half way"},), says_then=(READY,))
    slow.come_up.clear()
    async with small_hub(slow) as running:
        yield running


@pytest.fixture
async def binder(tmp_path: Path, hub: SmallHub) -> AsyncIterator[BinderProcess]:
    made = BinderProcess(tmp_path / "binder", hub)
    yield made
    if made.process is not None and made.process.returncode is None:
        made.process.kill()
        await made.process.wait()


class SlowHandler(GitHandler):
    """Lets requests for `/git/slow` and fetches from `/git/fetched` wait."""

    gate = threading.Event()

    def do_GET(self) -> None:
        if self.path.startswith("/git/slow"):
            self.gate.wait(60)
        super().do_GET()

    def do_POST(self) -> None:
        self.gate.wait(60)
        super().do_POST()


@pytest.fixture
def git_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of a git server that first lets requests wait."""
    monkeypatch.setenv("GIT_PROJECT_ROOT", str(tmp_path / "served"))
    monkeypatch.setenv("GIT_HTTP_EXPORT_ALL", "1")
    for name in ("slow", "fetched"):
        repository(tmp_path / "served" / name, {"README.md": name})
    SlowHandler.gate = threading.Event()
    with serving(ThreadingHTTPServer(("127.0.0.1", 0), SlowHandler)) as url:
        yield f"{url}/git"
        SlowHandler.gate.set()


async def test_a_stop_finishes_what_starts_and_sends_the_others_elsewhere(
    binder: BinderProcess, hub: SmallHub, git_url: str
) -> None:
    starting = binder.built("sea")
    await binder.start()
    spawned, resolving = Follower(binder, starting), Follower(binder, f"{git_url}/slow/.git")
    fetching = Follower(binder, f"{git_url}/fetched/.git")
    await asyncio.gather(spawned.says("Half way"), resolving.says("Looking up"), fetching.says("Fetching"))
    assert binder.process is not None
    binder.process.send_signal(signal.SIGTERM)

    for follower in (resolving, fetching):
        assert "failed" not in await follower.ended(), follower.events
        assert follower.events[-1]["message"].startswith("This service restarts.")
    async with aiohttp.ClientSession() as http, http.get(f"{binder.url}/health") as answer:
        assert answer.status == 503
        assert "draining" in (await answer.json())["checks"][0]["message"]
    new = Follower(binder, starting)
    assert await new.ended() == ["failed"]
    assert (new.status, new.headers["Retry-After"]) == (503, "5")
    assert (new.events[0]["message"], new.events[0]["reason"]) == ("This service restarts.\n", "service_stopping")

    hub.come_up.set()
    assert (await spawned.says("Server running"))["phase"] == "ready"
    assert await asyncio.wait_for(binder.process.wait(), 30) == 0, binder.log
    assert len(hub.servers) == 1 and not any(call.startswith("DELETE /users") for call in hub.calls)
    assert "Traceback" not in binder.log


async def test_a_server_that_does_not_come_up_in_time_is_stopped(binder: BinderProcess, hub: SmallHub) -> None:
    binder.drain_seconds = 0.2
    starting = binder.built("sea")
    await binder.start()
    spawned = Follower(binder, starting)
    await spawned.says("Half way")
    assert await binder.end(signal.SIGTERM) == 0, binder.log
    assert "failed" not in await spawned.ended()
    assert not hub.servers and not hub.users
    assert "Traceback" not in binder.log


async def test_a_killed_binder_loses_no_launch_that_is_opened_again(
    binder: BinderProcess, hub: SmallHub, git_url: str
) -> None:
    """The hub keeps the seat of the server that was starting, so its second launch waits until that has ended."""
    one = binder.built("one")
    await binder.start()
    spawned = Follower(binder, one)
    await spawned.says("Half way")
    queued, resolving = Follower(binder, one), Follower(binder, f"{git_url}/slow/.git")
    fetching = Follower(binder, f"{git_url}/fetched/.git")
    await asyncio.gather(queued.says("number 1 in the queue"), resolving.says("Looking up"), fetching.says("Fetching"))
    await binder.end(signal.SIGKILL)
    for follower in (spawned, queued, resolving, fetching):
        assert not {"failed", "ready"} & set(await follower.ended()), "the page connects again"

    SlowHandler.gate.set()
    hub.admissions = AdmissionTable(binders=0)  # its reservations expire after 30 s
    await binder.start()
    again = [Follower(binder, one) for _ in range(2)]
    await asyncio.gather(*(each.says("number") for each in again))
    hub.servers.clear()  # the culler ended it
    hub.come_up.set()
    async with asyncio.timeout(60):
        while not any(event["phase"] == "ready" for each in again for event in each.events):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    for name in ("slow", "fetched"):
        follower = Follower(binder, f"{git_url}/{name}/.git")
        await follower.says("Fetching the history")
        await follower.leave()
    assert await binder.end(signal.SIGTERM) == 0, binder.log
