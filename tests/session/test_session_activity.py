"""What keeps a session: working terminals, waiting tasks of its clusters, and traffic to its own servers."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from pangeo_binder.deploy.local.values import free_port

WRITES = "while true; do echo step; sleep 1; done\r"
COMPUTES = "clear; while true; do :; done\r"
WAITS = "sleep 300\r"
TALKER = """
import asyncio, sys
from tornado.web import Application
from tornado.websocket import WebSocketHandler

class Talker(WebSocketHandler):
    async def open(self):
        while True:
            await self.write_message("step")
            await asyncio.sleep(0.5)

async def main():
    Application([("/", Talker)]).listen(int(sys.argv[1]), "127.0.0.1")
    await asyncio.Event().wait()

asyncio.run(main())
"""


def moves(hub) -> Callable:
    """Return a function that returns whether the reported activity moves between the next reports."""

    async def is_moving() -> bool:
        first = await hub.after(2)
        return (await hub.after(2))["last_activity"] > first["last_activity"]

    return is_moving


@asynccontextmanager
async def terminal(client: aiohttp.ClientSession, url: str, line: str) -> AsyncIterator[None]:
    """A terminal in which `line` was typed; its page is closed inside the block, and the terminal ends after it."""
    async with client.post(f"{url}/api/terminals") as response:
        assert response.status == 200
        name = (await response.json())["name"]
    async with client.ws_connect(f"{url}/terminals/websocket/{name}") as socket:
        await socket.send_str(json.dumps(["stdin", line]))
        async for message in socket:
            if json.loads(message.data)[0] == "stdout":
                break
        await asyncio.sleep(1)
    try:
        yield
    finally:
        async with client.delete(f"{url}/api/terminals/{name}") as response:
            assert response.status == 204


async def test_a_terminal_counts_while_its_job_works(start, session_env, hub, wait_until_ready, client):
    url, is_moving = await wait_until_ready(start(session_env)), moves(hub)
    async with terminal(client, url, WAITS):
        async with terminal(client, url, WRITES):
            assert await is_moving()
        async with terminal(client, url, COMPUTES):
            await hub.after(1)
            assert await is_moving(), "a job without output works too"
        await hub.after(2)
        assert not await is_moving(), "a job that waits does not work"


async def test_a_server_without_terminals_reports(start, session_env, hub, wait_until_ready, client):
    url = await wait_until_ready(start(session_env, "--ServerApp.terminals_enabled=False"))
    async with client.post(f"{url}/api/terminals") as response:
        assert response.status == 404
    assert not await moves(hub)()


@pytest.mark.parametrize(
    ("counts", "works"),
    [
        ({"processing": 0, "unrunnable": 2, "workers": 1}, True),
        ({"processing": 0, "tasks": 5, "released": 1, "erred": 1, "workers": 0}, True),
        ({"processing": 0, "tasks": 2, "released": 1, "erred": 1, "workers": 0}, False),
        ({"processing": 0, "tasks": 5, "memory": 5, "workers": 1, "clients": 1}, False),
        ({"processing": 0}, False),
    ],
    ids=["no worker fits", "no worker", "failed", "in memory", "an old scheduler"],
)
def test_tasks_that_wait_for_a_worker_count_and_results_do_not(prefix: Path, counts: dict[str, int], works: bool):
    code = f"from pangeo_binder_session.activity import has_work; print(has_work({counts}))"
    assert subprocess.check_output([f"{prefix}/bin/python", "-c", code], text=True).strip() == str(works)


async def test_traffic_to_a_server_of_the_repository_counts(start, session_env, hub, wait_until_ready, client, prefix):
    port, is_moving = free_port(), moves(hub)
    talker = await asyncio.create_subprocess_exec(f"{prefix}/bin/python", "-c", TALKER, str(port))
    try:
        url = await wait_until_ready(start(session_env))
        async with client.ws_connect(f"{url}/proxy/{port}/") as socket:
            assert (await socket.receive()).data == "step"
            assert await is_moving(), "the page's connection"
        await hub.after(1)
        assert not await is_moving(), "no page is connected"
    finally:
        talker.kill()
        await talker.wait()
