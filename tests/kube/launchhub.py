"""A real JupyterHub whose servers only have a launch in their hub-written state, and a token."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from jupyterhub.proxy import Proxy
from jupyterhub.spawner import Spawner

from pangeo_binder.deploy.local.values import free_port
from pangeo_binder.model import STATE_KEY, Launch, to_wire
from tests.stack.local import Answer, request, until

ROOT = Path(__file__).parent.parent.parent
SERVICES = ("binder", "dask-gateway", "storage", "culler", "launches", "status")

CONFIG = """
from pangeo_binder.hub.roles import CUSTOM_SCOPES, SERVER_TOKEN_SCOPES, roles
from pangeo_binder.hub.user_api import user_handlers
from tests.kube.launchhub import SERVICES, NoProxy, StateSpawner
c.JupyterHub.bind_url = "http://127.0.0.1:1/"
c.JupyterHub.hub_bind_url = "http://127.0.0.1:{port}"
c.JupyterHub.db_url = "sqlite://"
c.JupyterHub.cookie_secret = b"0" * 32
c.JupyterHub.proxy_class = NoProxy
c.JupyterHub.spawner_class = StateSpawner
c.JupyterHub.load_roles = roles()
c.JupyterHub.custom_scopes = CUSTOM_SCOPES
c.JupyterHub.extra_handlers = user_handlers()
c.JupyterHub.services = [{{"name": name, "api_token": name.ljust(32, "-")}} for name in SERVICES]
c.JupyterHub.authenticator_class = "dummy"
c.Authenticator.allow_all = True
c.Spawner.server_token_scopes = SERVER_TOKEN_SCOPES
c.Spawner.poll_interval = 2
"""


class NoProxy(Proxy):
    """A proxy for a hub without visitors."""

    should_start = False

    async def add_route(self, routespec: str, target: str, data: Any) -> None:
        pass

    async def delete_route(self, routespec: str) -> None:
        pass

    async def get_all_routes(self) -> dict[str, Any]:
        return {}


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    await writer.drain()
    writer.close()


class StateSpawner(Spawner):
    """Starts a listener instead of a server."""

    listener: asyncio.Server | None = None

    async def start(self) -> tuple[str, int]:
        (Path(os.environ["TOKENS"]) / self.user.name).write_text(self.api_token)
        self.listener = await asyncio.start_server(_answer, "127.0.0.1", 0)
        return "127.0.0.1", self.listener.sockets[0].getsockname()[1]

    async def poll(self) -> int | None:
        return 0 if self.listener is None else None

    async def stop(self, now: bool = False) -> None:
        if self.listener is not None:
            self.listener.close()
            self.listener = None

    def get_state(self) -> dict[str, Any]:
        return {**super().get_state(), STATE_KEY: self.user_options["launch"]}


class LaunchHub:
    """The hub, as a process."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.api = f"http://127.0.0.1:{self.port}/hub/api"

    def start(self) -> LaunchHub:
        config = self.folder / "hub_config.py"
        config.write_text(CONFIG.format(port=self.port))
        environment = {**os.environ, "TOKENS": str(self.folder), "PYTHONPATH": str(ROOT)}
        with (self.folder / "hub.log").open("wb") as log:
            command = [sys.executable, "-m", "jupyterhub", "-f", str(config)]
            self._process = subprocess.Popen(command, cwd=self.folder, env=environment, stdout=log, stderr=log)
        until("the hub answers", self._answers, 60)
        return self

    def _answers(self) -> bool:
        assert self._process.poll() is None, (self.folder / "hub.log").read_text()
        try:
            return request(self.api).status == 200
        except OSError:
            return False

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(30)

    @staticmethod
    def service(name: str) -> str:
        """Return a service's token."""
        return name.ljust(32, "-")

    def ask(self, method: str, path: str, body: Any = None) -> Answer:
        token = f"token {self.service('binder')}"
        return request(f"{self.api}{path}", method, body, Authorization=token, Content_Type="application/json")

    def launch(self, launch: Launch) -> str:
        """Start the launch's server, and return its token."""
        assert self.ask("POST", f"/pangeo-binder/users/{launch.user}").status in (201, 409)
        started = self.ask("POST", f"/users/{launch.user}/server", {"launch": to_wire(launch)})
        assert started.status in (201, 202), started
        until("it runs", lambda: self.ask("GET", f"/users/{launch.user}/servers/").json.get("ready"), 60)
        return (self.folder / launch.user).read_text()

    def end(self, launch: Launch) -> None:
        """Stop the launch's server."""
        assert self.ask("DELETE", f"/users/{launch.user}/server").status in (202, 204)
