"""A real binder process next to a small hub, and clients that follow its launches."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
from yarl import URL

from benchmarks.launch.repositories import put_environment
from pangeo_binder.deploy.local.values import free_port
from pangeo_binder.model import RepoRef
from tests.launch.hubserver import KEYS, TOKEN, SmallHub
from tests.stack.repository import repository

POLICY = """
tiers:
  small: {{server: {{cpu: 1, memory: 1G, idle: 10m, max_age: 1h}}, dask: none, storage: none}}
rules:
  - {{repo: "git/{one}", tier: small, servers: 1}}
  - {{repo: "*", tier: small}}
"""
CONFIG = """
c = get_config()
binder = c.PangeoBinderHub
binder.ip, binder.port, binder.base_url = "127.0.0.1", {port}, "/"
binder.hub_api_url, binder.hub_api_token, binder.ticket_keys = {hub!r}, {token!r}, {keys!r}
binder.policy_file, binder.cache_dir, binder.allow_local_repositories = {policy!r}, {cache!r}, True
binder.drain_seconds = {drain_seconds}
"""


@dataclass
class BinderProcess:
    """The binder as a process, whose files stay when it ends."""

    folder: Path
    hub: SmallHub
    drain_seconds: float = 60
    port: int = field(default_factory=free_port)
    process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Start it, and return when it answers."""
        self.folder.mkdir(exist_ok=True)
        config, policy = self.folder / "binder_config.py", self.folder / "policy.yaml"
        policy.write_text(POLICY.format(one=(self.folder / "one").as_uri()))
        values = {"port": self.port, "hub": self.hub.url, "token": TOKEN, "keys": KEYS, "policy": str(policy)}
        config.write_text(CONFIG.format(**values, cache=str(self.cache), drain_seconds=self.drain_seconds))
        with (self.folder / "binder.log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "pangeo_binder.app", "-f", str(config)), stdout=log, stderr=log, env=os.environ
            )
        async with asyncio.timeout(60), aiohttp.ClientSession() as http:
            while True:
                assert self.process.returncode is None, self.log
                try:
                    async with http.get(f"{self.url}/versions"):
                        return
                except aiohttp.ClientError:
                    await asyncio.sleep(0.1)

    async def end(self, how: signal.Signals) -> int:
        """Send a signal, and return the exit code."""
        assert self.process is not None
        if self.process.returncode is None:
            self.process.send_signal(how)
        return await asyncio.wait_for(self.process.wait(), 60)

    @property
    def cache(self) -> Path:
        return self.folder / "cache"

    @property
    def log(self) -> str:
        return (self.folder / "binder.log").read_text()

    def built(self, name: str) -> str:
        """Make a repository whose environment is built, and return its URL."""
        url = repository(self.folder / name, {"start": "#!/bin/sh\n"}, ("start",))
        put_environment(RepoRef("git", url, "HEAD"), self.cache)
        return url


@dataclass
class Follower:
    """A client of one launch."""

    binder: BinderProcess
    url: str
    events: list[dict[str, Any]] = field(default_factory=list)
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    task: asyncio.Task[None] | None = None

    def __post_init__(self) -> None:
        self.task = asyncio.create_task(self._follow())

    async def _follow(self) -> None:
        url = URL(f"{self.binder.url}/build/git/{quote(self.url, safe='')}/HEAD", encoded=True)
        async with aiohttp.ClientSession() as http:
            try:
                async with http.get(url, headers={"Accept": "text/event-stream"}) as stream:
                    self.status, self.headers = stream.status, dict(stream.headers)
                    async for line in stream.content:
                        if line.startswith(b"data:"):
                            self.events.append(json.loads(line[5:]))
            except aiohttp.ClientError:
                return

    async def says(self, words: str) -> dict[str, Any]:
        """Return the event with `words` in its message once it has come."""
        async with asyncio.timeout(60):
            while True:
                for event in self.events:
                    if words in event["message"]:
                        return event
                assert self.task is not None
                assert not self.task.done(), (self.events, self.binder.log)
                await asyncio.sleep(0.02)

    async def ended(self) -> list[str]:
        """Return the phases of all events once the stream has ended."""
        assert self.task is not None
        await asyncio.wait_for(self.task, 60)
        return [event["phase"] for event in self.events]

    async def leave(self) -> None:
        assert self.task is not None
        self.task.cancel()
        await asyncio.wait({self.task})
