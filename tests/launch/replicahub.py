"""A real JupyterHub with our spawner, whose servers are entries in a folder, and binder processes that launch at it.

A server is a file that says what its launch takes, made by the hub when it starts it and removed when it stops it. So a
server outlives its hub, and who watches the folder's log knows how many ran at any moment, without asking anybody.
Everything else is the product's own: tickets, spawner, the hub's table and its API, admission, queue and pipeline.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from jupyterhub.spawner import Spawner

from pangeo_binder.deploy.local.values import free_port
from pangeo_binder.hub.spawner import LaunchSpawnerMixin
from pangeo_binder.policy.counters import takes
from tests.stack.local import Answer, request, until

ROOT = Path(__file__).parent.parent.parent
TOKEN, KEY = "the-token-of-the-binders", "the key that signs"
NETWORKS = ("203.0.113.1", "198.51.100.2", "2001:db8:1:2::/64")
REPOSITORIES = [f"https://github.com/{org}/r{number}" for number in range(10) for org in ("course", "lab", "a", "b")]
CONFIG = """
import pangeo_binder.hub.admissions as admissions
from pangeo_binder.hub.admission_api import handlers
from pangeo_binder.hub.dask.gateway import GatewayClusters, GatewayService
from pangeo_binder.hub.provision import Provisioner, StorageService
from pangeo_binder.hub.roles import roles
from pangeo_binder.hub.user_api import user_handlers
from tests.kube.launchhub import SERVICES, NoProxy
from tests.launch.replicahub import FileSpawner, TOKEN, KEY

admissions.EXPIRY_SECONDS, admissions.GRACE_SECONDS = {expiry}, {grace}
c.JupyterHub.bind_url = "http://127.0.0.1:1/"
c.JupyterHub.hub_bind_url = "http://127.0.0.1:{port}"
c.JupyterHub.db_url = "sqlite:///hub.sqlite"
c.JupyterHub.cookie_secret = b"0" * 32
c.JupyterHub.proxy_class = NoProxy
c.JupyterHub.cleanup_servers = False
c.JupyterHub.load_roles = roles()
c.JupyterHub.tornado_settings = {{"slow_spawn_timeout": 0}}
tokens = {{name: name.ljust(32, "-") for name in SERVICES}} | {{"binder": TOKEN}}
c.JupyterHub.services = [{{"name": name, "api_token": token}} for name, token in tokens.items()]
c.JupyterHub.authenticator_class = "null"
c.Authenticator.any_allow_config = True
c.JupyterHub.spawner_class = FileSpawner
spawner = c.FileSpawner
spawner.ticket_keys = [KEY]
spawner.admissions = admissions.AdmissionTable({binders})
c.JupyterHub.extra_handlers = [*handlers(spawner.admissions), *user_handlers()]
nobody = GatewayService("http://127.0.0.1:1", "", {{}})
spawner.provisioner = Provisioner(StorageService("http://127.0.0.1:1", ""), GatewayClusters(nobody))
c.Spawner.poll_interval = 3600
"""


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    await writer.drain()
    writer.close()


class FileSpawner(LaunchSpawnerMixin, Spawner):
    """Makes a file instead of a process, and writes a log of them; all answer at one listener."""

    listener: asyncio.Server | None = None
    """Of the hub process: what JupyterHub asks whether a server is up."""

    @property
    def _file(self) -> Path:
        return Path("servers") / self.user.name

    def _log(self, sign: str) -> None:
        with Path("servers.log").open("a") as log:
            log.write(f"{sign} {self.user.name} {self._file.read_text()}\n")

    async def start(self) -> tuple[str, int]:
        assert self.launch is not None
        self._file.write_text(json.dumps(takes(self.launch.grant, self.launch.network, self.launch.person)))
        self._log("+")
        return "127.0.0.1", await self._listen()

    async def _listen(self) -> int:
        if FileSpawner.listener is None:
            FileSpawner.listener = await asyncio.start_server(_answer, "127.0.0.1", 0)
        port: int = FileSpawner.listener.sockets[0].getsockname()[1]
        return port

    async def get_url(self) -> str:
        """Return where a server that outlived its hub answers now."""
        return f"http://127.0.0.1:{await self._listen()}"

    async def poll(self) -> int | None:
        return None if self._file.exists() else 0

    async def stop(self, now: bool = False) -> None:
        self._log("-")
        self._file.unlink()


@dataclass
class ReplicaHub:
    """The hub as a process, and what its servers took."""

    folder: Path
    binders: int | None = None
    expiry: float = 30
    grace: float = 20
    port: int = field(default_factory=free_port)

    @property
    def api(self) -> str:
        return f"http://127.0.0.1:{self.port}/hub/api"

    def start(self) -> ReplicaHub:
        (self.folder / "servers").mkdir(exist_ok=True)
        (self.folder / "servers.log").touch()
        config = self.folder / "hub_config.py"
        config.write_text(CONFIG.format(port=self.port, binders=self.binders, expiry=self.expiry, grace=self.grace))
        with (self.folder / "hub.log").open("ab") as log:
            command = [sys.executable, "-m", "jupyterhub", "-f", str(config)]
            environment = {**os.environ, "PYTHONPATH": str(ROOT)}
            self._process = subprocess.Popen(command, cwd=self.folder, env=environment, stdout=log, stderr=log)
        until("the hub answers", self._answers, 60)
        return self

    def _answers(self) -> bool:
        assert self._process.poll() is None, (self.folder / "hub.log").read_text()[-3000:]
        try:
            return request(self.api).status == 200
        except OSError:
            return False

    def kill(self) -> None:
        """End the hub as a crash would; the servers stay."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(30)

    def ask(self, method: str, path: str, body: Any = None) -> Answer:
        return request(f"{self.api}{path}", method, body, Authorization=f"token {TOKEN}")

    @property
    def running(self) -> Counter[str]:
        """What all servers take now, by counter."""
        files = (self.folder / "servers").iterdir()
        return sum((Counter(json.loads(file.read_text())) for file in files), Counter())

    @property
    def most(self) -> Counter[str]:
        """The most that servers took of each counter at any moment."""
        now: Counter[str] = Counter()
        most: Counter[str] = Counter()
        for line in (self.folder / "servers.log").read_text().splitlines():
            sign, _, taken = line.split(" ", 2)
            for key, amount in json.loads(taken).items():
                now[key] += amount if sign == "+" else -amount
                most[key] = max(most[key], now[key])
        return most


@dataclass
class Replica:
    """A binder process without its pages: it takes clicks on its standard input and reports what became of them."""

    process: subprocess.Popen[str]
    output: Path

    def click(self, *clicks: tuple[str, str]) -> None:
        """Click on repositories, each from a network."""
        assert self.process.stdin is not None
        self.process.stdin.write("".join(f"{json.dumps(click)}\n" for click in clicks))
        self.process.stdin.flush()

    @property
    def outcomes(self) -> list[str]:
        """What became of the clicks so far: `seated` each time one was admitted, then how it ended."""
        return self.output.read_text().split()

    def count(self, outcome: str) -> int:
        return self.outcomes.count(outcome)

    @property
    def ended(self) -> int:
        """How many clicks have ended."""
        return sum(outcome != "seated" for outcome in self.outcomes)

    def kill(self) -> None:
        assert self.process.stdin is not None
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()


def clicks(count: int) -> list[tuple[str, str]]:
    """Return clicks over all repositories and networks, each a repository and a network."""
    pairs = itertools.cycle(itertools.product(REPOSITORIES, NETWORKS))
    return list(itertools.islice(pairs, count))


def share_out(binders: list[Replica], wanted: list[tuple[str, str]]) -> None:
    """Click at all binders at the same time, in turn."""
    for number, each in enumerate(binders):
        each.click(*wanted[number :: len(binders)])


@contextmanager
def replicas(hub: ReplicaHub, count: int, policy: str, **settings: float) -> Iterator[list[Replica]]:
    """Start binder processes that know `hub` and `policy`; nothing of them is left."""
    path = hub.folder / "policy.yaml"
    path.write_text(policy)
    started: list[Replica] = []
    try:
        for number in range(count):
            started.append(_start(hub, path, hub.folder / f"replica-{number}", settings))
        for each in started:
            until("it has reported to the hub", lambda each=each: "ready?" in each.output.read_text(), 60)
            each.output.write_text("")
        yield started
    finally:
        for each in started:
            each.kill()


def _start(hub: ReplicaHub, policy: Path, name: Path, settings: dict[str, float]) -> Replica:
    command = [sys.executable, "-m", "tests.launch.replica", hub.api, str(policy), json.dumps(settings)]
    output, errors = name.with_suffix(".out"), name.with_suffix(".log")
    with _append(output) as out, _append(errors) as err:
        process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=out, stderr=err, text=True, env={**os.environ}
        )
    return Replica(process, output)


def _append(path: Path) -> IO[bytes]:
    return path.open("ab")
