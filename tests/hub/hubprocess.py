"""The hub as the local profile configures it, but without its services: the tests use their tokens."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from pangeo_binder.deploy.local.values import LocalValues, Secrets, free_port, reserved_ports, write_values
from pangeo_binder.hub.roles import GATEWAY, LAUNCHES, STATUS
from pangeo_binder.launch.hub import Hub
from pangeo_binder.local.lineage import hold_lifeline
from pangeo_binder.local.processes import LAUNCH, STATE_DIR, end_all
from pangeo_binder.model import Environment, Launch, VirtualEnvironment
from pangeo_binder.ticket import sign
from tests.stack.local import Answer, command_of, is_launcher, request, until
from tests.stack.seats import PATH as ADMISSIONS
from tests.stack.seats import report_body, reserve

SERVICES = ("binder", GATEWAY, "storage", "culler", LAUNCHES, STATUS)
ACCOUNTS = ("ada@example.org", "eve")
"""People with an account from the start, as authenticators make them."""
CONFIG = """
from pangeo_binder.deploy.local.hub import configure

c = get_config()
configure(c, {state_dir!r})
c.JupyterHub.services = [{{"name": name, "api_token": token}} for name, token in {tokens!r}.items()]
c.Authenticator.allowed_users = set({accounts!r})
"""
SERVER = '''
"""A server that shows its arguments and environment to the holder of its token."""

import http.server
import json
import os
import sys


class Server(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        known = self.headers.get("Authorization") == "token " + os.environ["JUPYTER_TOKEN"]
        body = json.dumps({"arguments": sys.argv, "environment": dict(os.environ)} if known else {}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_HEAD = do_GET


port = next(argument.partition("=")[2] for argument in sys.argv if argument.startswith("--ServerApp.port="))
http.server.ThreadingHTTPServer(("127.0.0.1", int(port)), Server).serve_forever()
'''


def small_environment(folder: Path) -> Environment:
    """Make an environment whose JupyterLab is a small server."""
    prefix, checkout = folder / "prefix", folder / "checkout"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(prefix)], check=True)
    (prefix / "bin" / "jupyter-lab").write_text(SERVER)
    checkout.mkdir()
    (checkout / "README.md").write_text("Sea\n")
    return VirtualEnvironment("small", str(prefix), str(checkout))


@dataclass
class HubProcess:
    """A running hub."""

    folder: Path

    def __post_init__(self) -> None:
        self._reserved = ExitStack()
        ports = self._reserved.enter_context(reserved_ports(free_port()))
        self.values = LocalValues(self.folder / "state", ports, Secrets())
        self.tokens = {name: f"the-token-of-{name}-in-these-tests" for name in SERVICES}
        self.config = self.folder / "hub_config.py"
        self.values.folder("run")
        self._lifeline = hold_lifeline(str(self.values.state_dir))

    def start(self) -> HubProcess:
        write_values(self.values)
        state_dir = str(self.values.state_dir)
        self.config.write_text(CONFIG.format(state_dir=state_dir, tokens=self.tokens, accounts=ACCOUNTS))
        self.log_file = self.folder / "hub.log"
        environment = {**os.environ, STATE_DIR: state_dir}
        environment["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "jupyterhub", "-f", str(self.config)],
                cwd=self.values.folder("run"),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        until("the hub answers", self._answers, 150)
        # as the binder does when it starts; until then the hub gives no seats
        assert self.ask("binder", "PUT", ADMISSIONS, report_body()).status == 200
        return self

    def _answers(self) -> bool:
        assert self.process.poll() is None, self.log_file.read_text()[-3000:]
        try:
            # the proxy's route is the last thing a hub makes when it starts
            return request(f"{self.values.public_url}hub/api/").status == 200
        except OSError:
            return False

    def kill(self) -> None:
        """Kill the hub with its proxy, as a crash would; servers continue."""
        self.process.kill()
        self.process.wait()
        for process in psutil.process_iter():
            try:
                environ = process.environ()
            except (psutil.Error, OSError):
                continue
            if environ.get(STATE_DIR) == str(self.values.state_dir) and LAUNCH not in environ:
                process.kill()

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=30)
        end_all(str(self.values.state_dir))
        os.close(self._lifeline)
        self._reserved.close()

    def ask(self, who: str, method: str, path: str, body: Any = None) -> Answer:
        """Send a request to the hub's API as a service, or with a token."""
        token = self.tokens.get(who, who)
        return request(f"{self.values.hub_api}{path}", method, body, Authorization=f"token {token}")

    def ticket(self, launch: Launch, *, age_seconds: float = 0, keys: list[str] | None = None) -> str:
        return sign(launch, keys or self.values.secrets.ticket_keys, time.time() - age_seconds)

    async def launch(self, launch: Launch, ticket: str, *, seat: bool = True) -> list[str]:
        """Start a server as the binder does; return the messages, or raise the binder's error."""
        hub = Hub(self.values.hub_api, self.tokens["binder"], self.values.secrets.ticket_keys)
        try:
            if seat:
                await reserve(hub, launch)
            return [message async for message in hub.start(launch, ticket)]
        finally:
            await hub.close()

    def state(self, launch: Launch) -> dict[str, Any]:
        """Return the hub-written state of a launch's server."""
        found: dict[str, Any] = self.ask(GATEWAY, "GET", f"/users/{launch.user}/servers/").json["state"]
        return found

    def home(self, launch: Launch) -> Path:
        return self.values.state_dir / "homes" / launch.id

    def processes(self, *launches: Launch) -> list[psutil.Process]:
        """Return the launches' processes."""
        ids = {launch.id for launch in launches}
        return [process for process in psutil.process_iter() if _environ(process).get(LAUNCH) in ids]

    def session(self, launch: Launch) -> dict[str, Any]:
        """Return the arguments and the environment of a launch's running server."""
        server = next(each for each in self.processes(launch) if not is_launcher(command_of(each)))
        return {"arguments": server.cmdline(), "environment": server.environ()}


def _environ(process: psutil.Process) -> dict[str, str]:
    try:
        return process.environ()
    except (psutil.Error, OSError):
        return {}


NewLaunch = Callable[..., Launch]
