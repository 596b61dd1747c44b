"""A real Jupyter server in a real environment, and a small hub and gateway that record the requests they get."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from pangeo_binder.builders.base import BuildSettings
from pangeo_binder.builders.venv.builder import VenvBuilder
from pangeo_binder.git import GitAccess
from pangeo_binder.model import Repo, RepoRef
from tests.repos.gitrepo import git, make_repository

TOKEN = "server-token"


@pytest.fixture(scope="session")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment as built for every launch."""
    folder = tmp_path_factory.mktemp("session")
    path = make_repository(folder / "empty", {"readme.md": ""})
    repo = Repo(RepoRef("git", str(path), "main"), git("rev-parse", "HEAD", cwd=path))
    builder = VenvBuilder(BuildSettings(folder / "cache", git=GitAccess(allow_local=True)))

    async def build() -> Path:
        events = [event async for event in builder.build(repo)]
        assert events[-1].environment
        return Path(events[-1].environment.prefix)

    return asyncio.run(build())


@dataclass
class Hub:
    """A stand-in for hub and gateway: the requests it got, and the answers it gives."""

    url: str = ""
    posts: list[dict] = field(default_factory=list)
    headers: list[str] = field(default_factory=list)
    status: int = 200
    processing: int = 0
    seen_tokens: set[str | None] = field(default_factory=set)
    """The Authorization headers in requests to the scheduler."""
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    async def activity(self, request: web.Request) -> web.Response:
        self.posts.append(await request.json())
        self.headers.append(request.headers["Authorization"])
        self.arrived.set()
        return web.json_response({}, status=self.status)

    async def clusters(self, request: web.Request) -> web.Response:
        allowed = request.headers.get("Authorization") == "jupyterhub api-token"
        return web.json_response({"second": {"name": "second"}}, status=200 if allowed else 401)

    async def counts(self, request: web.Request) -> web.Response:
        if request.match_info["name"] != "second":
            raise web.HTTPNotFound
        return web.json_response({"processing": self.processing})

    async def own_counts(self, request: web.Request) -> web.Response:
        self.seen_tokens.add(request.headers.get("Authorization"))
        return web.json_response({"processing": self.processing})

    async def after(self, number: int) -> dict:
        """Wait for `number` more posts and return the last one."""
        wanted = len(self.posts) + number
        async with asyncio.timeout(60):
            while len(self.posts) < wanted:
                self.arrived.clear()
                await self.arrived.wait()
        return self.posts[-1]


@pytest.fixture
async def hub() -> AsyncIterator[Hub]:
    stand_in = Hub()
    app = web.Application()
    app.router.add_post("/hub/api/users/me/activity", stand_in.activity)
    app.router.add_get("/gateway/api/v1/clusters/", stand_in.clusters)
    app.router.add_get("/gateway/clusters/{name}/json/counts.json", stand_in.counts)
    app.router.add_get("/scheduler/json/counts.json", stand_in.own_counts)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    stand_in.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield stand_in
    await runner.cleanup()


@pytest.fixture
def session_env(hub: Hub) -> dict[str, str]:
    """The variables the hub sets for a session."""
    return {
        "JUPYTERHUB_API_TOKEN": "api-token",
        "JUPYTERHUB_ACTIVITY_URL": f"{hub.url}/hub/api/users/me/activity",
        "JUPYTERHUB_SERVER_NAME": "one",
        "PANGEO_BINDER_ACTIVITY_SECONDS": "1",
        "PANGEO_BINDER_ENDS_AT": "4102444800",
        "DASK_GATEWAY__ADDRESS": f"{hub.url}/gateway",
        "DASK_GATEWAY_CLUSTER": "first",
    }


@pytest.fixture
def start(prefix: Path, tmp_path: Path, unused_tcp_port: int) -> Iterator:
    """Start a Jupyter server with the given environment variables and options, and return its URL."""
    started: list[subprocess.Popen] = []

    def run(env: dict[str, str], *more: str) -> str:
        base = {"PATH": f"{prefix}/bin:{os.environ['PATH']}", "HOME": str(tmp_path), "JUPYTER_TOKEN": TOKEN, **env}
        options = ["--ServerApp.ip=127.0.0.1", f"--ServerApp.port={unused_tcp_port}", "--ServerApp.port_retries=0"]
        argv = [f"{prefix}/bin/python", "-m", "jupyter_server", "--allow-root", *options, *more]
        log = (tmp_path / "server.log").open("w")
        with log:
            started.append(subprocess.Popen(argv, env=base, cwd=tmp_path, stdout=log, stderr=log))
        return f"http://127.0.0.1:{unused_tcp_port}"

    yield run
    for process in started:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        process.kill()
        process.wait(10)


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    """A client with the server's token."""
    async with aiohttp.ClientSession(headers={"Authorization": f"token {TOKEN}"}) as session:
        yield session


@pytest.fixture
def wait_until_ready(client: aiohttp.ClientSession):
    """Wait until a server answers."""

    async def wait(url: str) -> str:
        async with asyncio.timeout(60):
            while True:
                try:
                    async with client.get(f"{url}/api") as response:
                        if response.status == 200:
                            return url
                except aiohttp.ClientError:
                    await asyncio.sleep(0.1)

    return wait
