"""The local profile for tests: the real command `up`, in its own state directory."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil

from pangeo_binder.deploy.local.values import LocalValues, free_port, read_values
from pangeo_binder.local.processes import LAUNCH, STATE_DIR

COMMAND = str(Path(sys.executable).parent / "pangeo-binder")
START_SECONDS = 150
LAUNCH_SECONDS = 280


def until(what: str, true: Any, seconds: float = 60) -> Any:
    """Wait until `true()` is true, and return its value; fail with `what` after `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = true()
        if found:
            return found
        time.sleep(0.2)
    raise AssertionError(f"not within {seconds} s: {what}")


def command_of(process: psutil.Process) -> str:
    """Return the command line of `process`; empty if it has ended."""
    with suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""


def is_launcher(command: str) -> bool:
    """Return whether `command` is a launcher's (`pangeo_binder/local/launcher.py`), which also contains its child's."""
    return "from launcher import main" in command


@dataclass(frozen=True)
class Answer:
    """An HTTP response."""

    status: int
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def request(url: str, method: str = "GET", body: Any = None, **headers: str) -> Answer:
    """Send a request and return the answer with any status; keyword arguments are headers, such as `Authorization`."""
    data = None if body is None else json.dumps(body).encode()
    sent = urllib.request.Request(
        url, data=data, method=method, headers={k.replace("_", "-"): v for k, v in headers.items()}
    )
    try:
        with urllib.request.urlopen(sent, timeout=60) as response:
            return Answer(response.status, response.read())
    except urllib.error.HTTPError as error:
        return Answer(error.code, error.read())


def events_of(binder: str, repo: str, ref: str = "HEAD", **headers: str) -> Iterator[dict[str, Any]]:
    """Yield the events of a launch at `binder`, as any BinderHub client receives them."""
    yield from events_at(f"{binder}build/git/{quote(repo, safe='')}/{quote(ref)}", **headers)


def events_at(url: str, **headers: str) -> Iterator[dict[str, Any]]:
    """Yield the events of the stream at `url`; a launch that is left before its end is given up."""
    sent = urllib.request.Request(url, headers={"Accept": "text/event-stream", **headers})
    last, ended = "", False
    try:
        with urllib.request.urlopen(sent, timeout=LAUNCH_SECONDS) as response:
            for line in response:
                if line.startswith(b"id:"):
                    last = line[3:].decode().strip()
                if line.startswith(b"data:"):
                    event = json.loads(line[5:])
                    ended = event["phase"] in ("ready", "failed")
                    yield event
                    if ended:
                        return
    finally:
        if last and not ended:  # else the launch would wait for its client to come back
            with suppress(OSError):  # the binder may have ended
                request(url, "DELETE", **{**headers, "Last-Event-ID": last})


class LocalStack:
    """One running stack."""

    command = (COMMAND, "up")

    def __init__(self, state_dir: Path, *options: str) -> None:
        self.state_dir = state_dir
        self.options = options

    def start(self, terminal: int | None = None) -> LocalStack:
        """Start it and wait until it is ready; with a file descriptor `terminal`, as its foreground process."""
        self.port = free_port()
        options = ["--no-open", "--state-dir", str(self.state_dir), "--port", str(self.port), *self.options]
        self.output = self.state_dir.parent / f"{self.state_dir.name}.out"
        # the tests may run under `nohup`, which makes all children ignore SIGHUP
        session = [] if terminal is None else ["env", "--default-signal=HUP", "setsid", "--ctty"]
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [*session, *self.command, *options],
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL if terminal is None else terminal,
                start_new_session=terminal is None,
            )
        until("the stack reports that it is ready", self._ready, START_SECONDS)
        return self

    def _ready(self) -> bool:
        output = self.output.read_text()
        assert self.process.poll() is None, f"up ended:\n{output}\n{self.log[-3000:]}"
        return "Ctrl-C stops everything" in output

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(timeout=60)

    def is_healthy(self) -> bool:
        """Return whether every service answers."""
        try:
            return request(f"{self.url}health").status == 200
        except OSError:
            return False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    @property
    def address(self) -> str:
        """The address that `up` prints, with the token."""
        return self.values.address

    @property
    def login(self) -> dict[str, str]:
        """The header with which the binder answers."""
        return {"Authorization": f"token {self.values.secrets.binder_token}"}

    def page(self, path: str, **headers: str) -> Answer:
        """Return the binder's answer at `path`, requested with the token."""
        return request(f"{self.url}{path}", **self.login, **headers)

    @property
    def log(self) -> str:
        path = self.state_dir / "logs" / "stack.log"
        return path.read_text() if path.exists() else ""

    @property
    def values(self) -> LocalValues:
        return read_values(self.state_dir)

    def example(self, name: str) -> str:
        return (self.state_dir / "examples" / name).as_uri()

    def events(self, repo: str, ref: str = "HEAD") -> Iterator[dict[str, Any]]:
        """Yield a launch's events, as any BinderHub client receives them."""
        yield from events_of(self.url, repo, ref, **self.login)

    def last_event(self, repo: str, ref: str = "HEAD") -> dict[str, Any]:
        return list(self.events(repo, ref))[-1]

    def launch(self, repo: str, ref: str = "HEAD") -> Session:
        """Launch and return the session; fail with the log if it does not start."""
        event = self.last_event(repo, ref)
        assert event["phase"] == "ready", f"{event}\n{self.log[-4000:]}"
        return Session(self, event)

    def hub(self, method: str, path: str, token: str) -> Answer:
        return request(f"{self.values.hub_api}{path}", method, Authorization=f"token {token}")

    def servers(self) -> dict[str, Any]:
        """Return the active servers by user, with the operator's token."""
        users = self.hub("GET", "/users?state=active", self.values.secrets.status_token).json
        return {user["name"]: user["servers"][""] for user in users}

    def clusters(self) -> list[dict[str, Any]]:
        url = f"{self.values.gateway_url}/api/v1/launches/"
        return request(url, Authorization=f"jupyterhub {self.values.secrets.status_token}").json

    def storage(self) -> dict[str, dict[str, Any]]:
        url = f"{self.values.storage_admin_url}/launches"
        found = request(url, Authorization=f"Bearer {self.values.secrets.storage_status_token}").json
        return {entry["id"]: entry for entry in found["launches"]}

    def processes(self, launch_id: str | None = None) -> list[psutil.Process]:
        """Return this stack's processes: those of one launch, or (None) those of no launch."""
        found = []
        for process in psutil.process_iter():
            try:
                environ = process.environ()
                if process.status() == psutil.STATUS_ZOMBIE:
                    continue
            except (psutil.Error, OSError):
                continue
            if environ.get(STATE_DIR) == str(self.state_dir) and environ.get(LAUNCH) == launch_id:
                found.append(process)
        return found

    def running(self, word: str, launch_id: str | None = None) -> list[psutil.Process]:
        """Return the processes of a launch, or (None) of no launch, with `word` in the command line.

        Omits their launchers and multiprocessing children, whose command lines also contain `word`.
        """
        commands = [(process, command_of(process)) for process in self.processes(launch_id)]
        return [
            process
            for process, command in commands
            if word in command and "multiprocessing" not in command and not is_launcher(command)
        ]

    def launchers(self, launch_id: str) -> list[psutil.Process]:
        """Return a launch's launchers, two for each of its servers, schedulers and workers."""
        return [process for process in self.processes(launch_id) if is_launcher(command_of(process))]

    def service(self, word: str) -> psutil.Process:
        """Wait for the process of the stack with `word` in the command line, and return it."""
        return until(f"a process {word}", lambda: self.running(word))[0]


class Session:
    """A launched server, with the last event of its launch."""

    def __init__(self, stack: LocalStack, event: dict[str, Any]) -> None:
        self.stack = stack
        self.event = event
        self.url = event["url"]
        self.id = event["launch_id"]
        self.user = self.url.rstrip("/").rsplit("/", 1)[-1]
        self.token = event["token"]

    def request(self, path: str, method: str = "GET", body: Any = None) -> Answer:
        return request(f"{self.url}{path}", method, body, Authorization=f"token {self.token}")

    def stop(self) -> None:
        """End the session as its user would, and wait until everything of it is gone."""
        self.delete()
        self.wait_gone()

    def delete(self) -> None:
        """Shut the server down through its own API, as its menu does."""
        assert self.request("api/shutdown", "POST").status == 200

    def wait_gone(self, seconds: float = 30) -> None:
        """Wait until nothing of the session is left; fail after `seconds` in total."""
        deadline = time.monotonic() + seconds
        gone = {
            "the server is gone": lambda: self.user not in self.stack.servers(),
            "its processes are gone": lambda: not self.stack.processes(self.id),
            "its clusters are gone": lambda: not self.clusters(),
            "its credentials are gone": lambda: self.stack.storage().get(self.id, {"revoked": True})["revoked"],
        }
        for what, true in gone.items():
            until(what, true, max(0.1, deadline - time.monotonic()))  # check at least once

    def clusters(self) -> list[dict[str, Any]]:
        return [cluster for cluster in self.stack.clusters() if cluster["owner"] == f"{self.user}/"]

    def environment(self) -> dict[str, str]:
        """Return the server process's environment."""
        servers = self.stack.running("jupyter-lab", self.id)
        assert servers, "the session's server is not running"
        return servers[0].environ()
