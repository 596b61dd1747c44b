"""Kills processes of a local stack at random moments, and finds what is left that no server owns."""

from __future__ import annotations

import random
import secrets
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from pangeo_binder.local.processes import LAUNCH
from tests.stack.kernel import Kernel
from tests.stack.local import LocalStack, Session, until
from tests.stack.remains import marked
from tests.stack.repository import repository

LEFT_SECONDS = 120
"""The time after which nothing may be left that no server owns."""

_SERVICES = {
    "hub": "jupyterhub -f",
    "gateway": "gateway.server -f",
    "gateway's proxy": "dask-gateway-proxy -",
    "binder": "pangeo_binder.app",
    "proxy": "traefik --",
    "storage": "pangeo_binder.deploy.local.storage",
    "culler": "pangeo_binder.hub.cull",
}
_OF_LAUNCH = {"server": "jupyter-lab", "scheduler": "dask_scheduler", "worker": "dask_worker"}
KINDS = (*_SERVICES, *_OF_LAUNCH, "launcher", "up")
MOMENTS = {"spawn": 4.0, "run": 1.0, "stop": 1.5}
"""The moments of a launch's life, each with the seconds within which a random time is chosen."""


@dataclass(frozen=True)
class Kill:
    """One kill -9."""

    kind: str
    moment: str
    seconds: float
    """How long after the moment's beginning."""


def kills(chosen: random.Random) -> Iterator[dict[str, Kill]]:
    """Yield the kills of one launch after another: each kind once at some moment, then each again."""
    while True:
        kinds = chosen.sample(KINDS, len(KINDS))
        for at in range(0, len(kinds), len(MOMENTS)):
            moments = zip(kinds[at:], MOMENTS.items(), strict=False)
            yield {name: Kill(kind, name, chosen.uniform(0, seconds)) for kind, (name, seconds) in moments}


class Killing:
    """Launches of one stack whose every server and worker starts a process that sheds its marks."""

    def __init__(self, stack: LocalStack, chosen: random.Random) -> None:
        self.stack = stack
        self._chosen = chosen
        self._name = f"escaped-{secrets.token_hex(4)}-"
        self._launches: set[str] = set()
        escape = f"env -i setsid -f bash -c 'exec -a {self._name}$0 sleep 10000' \"${LAUNCH}\""
        self._escape = f"import subprocess; subprocess.run({escape!r}, shell=True, check=True)"
        files = {"requirements.txt": "", "start": f'#!/bin/sh\n{escape}\nexec "$@"\n'}
        self._repository = repository(stack.state_dir.parent / "repository", files, ("start",))

    def start(self) -> None:
        """Start the stack, and build the repository's environment, so that launches are short."""
        self.stack.start()
        self.stack.launch(self._repository).stop()

    def round(self, planned: dict[str, Kill]) -> list[Kill]:
        """Kill during one launch, end it, and wait until nothing is left; return the kills that found a process."""
        done = [each for each in [self._spawn(planned.get("spawn"))] if each]
        session = self._session()
        if kill := planned.get("run"):
            self._escape_everywhere(session)
            done += self._kill(kill, session.id)
        if kill := planned.get("stop"):
            self._end_servers()
            done += self._kill(kill, session.id)
        self.settle()
        return done

    def _spawn(self, kill: Kill | None) -> Kill | None:
        """Kill while a server starts; return the kill if it found a process."""
        if kill is None:
            return None
        until("the stack is healthy", self.stack.is_healthy)
        before = set(self._records())
        follower = threading.Thread(target=self._follow, daemon=True)
        follower.start()
        started = until("a launch is recorded", lambda: set(self._records()) - before).pop()
        found = self._kill(kill, started)
        follower.join(LEFT_SECONDS)
        return kill if found else None

    def _follow(self) -> None:
        with suppress(OSError, ValueError):  # the stream ends with its binder
            for _ in self.stack.events(self._repository):
                pass

    def _session(self) -> Session:
        """Return a new session; a launch may fail until all processes are back."""

        def launched() -> Session | None:
            with suppress(OSError, ValueError):
                event: dict[str, Any] = self.stack.last_event(self._repository)
                if event["phase"] == "ready":
                    return Session(self.stack, event)
            return None

        session: Session = until("a launch succeeds", launched, LEFT_SECONDS)
        self._launches.add(session.id)
        return session

    def _escape_everywhere(self, session: Session) -> None:
        """Start a process without marks in the session's kernel; the server's own began with it."""
        with Kernel(session) as kernel:
            kernel.value(self._escape)
        assert session.id in self.escaped()

    def _kill(self, kill: Kill, launch: str) -> list[Kill]:
        self._launches.add(launch)
        time.sleep(kill.seconds)
        if kill.kind == "up":
            self._kill_up()
            return [kill]
        with suppress(AssertionError):  # not every launch has a worker yet, and an ended one has nothing
            victims = until("a victim", lambda: self._victims(kill.kind, launch), 5)
            with suppress(psutil.NoSuchProcess):
                self._chosen.choice(victims).send_signal(signal.SIGKILL)
                return [kill]
        return []

    def _victims(self, kind: str, launch: str) -> list[psutil.Process]:
        if kind == "launcher":
            return self.stack.launchers(launch)
        if kind in _OF_LAUNCH:
            return self.stack.running(_OF_LAUNCH[kind], launch)
        return self.stack.running(_SERVICES[kind])

    def _kill_up(self) -> None:
        """Kill `up`: everything ends by itself, and the next `up` finds files only."""
        self.stack.process.kill()
        self.stack.process.wait(10)
        until("all processes have ended", lambda: not marked(self.stack) and not self.escaped(), LEFT_SECONDS)
        self.stack.start()

    def _end_servers(self) -> None:
        """End all servers in order, as their menu does."""
        for launch in self._launches:
            for server in self.stack.running(_OF_LAUNCH["server"], launch):
                with suppress(psutil.NoSuchProcess):
                    server.terminate()

    def settle(self) -> None:
        """End the servers that survived, and wait until nothing is left but users, which the culler removes later."""
        until("the stack is healthy", self.stack.is_healthy, LEFT_SECONDS)
        self._nothing_is_left(lambda: {name: ids for name, ids in self.unowned().items() if name != "users"})
        self._end_servers()
        self._nothing_is_left(lambda: {"servers": found} if (found := set(self.stack.servers())) else {})
        self._nothing_is_left(lambda: {name: ids for name, ids in self.unowned().items() if name != "users"})

    def finish(self) -> None:
        """Wait until not even a user is left."""
        self._nothing_is_left(self.unowned)

    @staticmethod
    def _nothing_is_left(left: Callable[[], dict[str, set[str]]]) -> None:
        def nothing() -> bool:
            # a service that was killed may be about to end when it accepts a request, or not be back: the health of
            # a service is kept for some seconds
            with suppress(OSError, ValueError):
                return not left()
            return False

        try:
            until("nothing is left", nothing, LEFT_SECONDS)
        except AssertionError:
            raise AssertionError(f"left after {LEFT_SECONDS} s: {left()}") from None

    def unowned(self) -> dict[str, set[str]]:
        """Return everything of a launch whose server the hub does not have, by kind."""
        stack, servers = self.stack, set(self.stack.servers())
        owned = {user.rpartition("-")[2] for user in servers}
        users = stack.hub("GET", "/users", stack.values.secrets.status_token).json
        found = {
            "processes": set(marked(stack, LAUNCH)) - owned,
            "escaped processes": self.escaped() - owned,
            "homes": {path.name for path in (stack.state_dir / "homes").iterdir()} - owned,
            "records": set(self._records()) - owned,
            "clusters": {each["name"] for each in stack.clusters() if each["owner"].rstrip("/") not in servers},
            "credentials": {id_ for id_, entry in stack.storage().items() if not entry["revoked"]} - owned,
            "users": {user["name"] for user in users} - servers,
        }
        return {name: ids for name, ids in found.items() if ids}

    def escaped(self) -> set[str]:
        """Return the launches of which a process without marks runs."""
        found = set()
        for process in psutil.process_iter():
            with suppress(psutil.Error, IndexError):
                name = process.cmdline()[0]
                if name.startswith(self._name) and process.status() != psutil.STATUS_ZOMBIE:
                    found.add(name.removeprefix(self._name))
        return found

    def _records(self) -> list[str]:
        return [path.name for path in self._folder.iterdir()]

    @property
    def _folder(self) -> Path:
        return self.stack.state_dir / "run" / "launches"


def count(done: list[Kill]) -> dict[str, int]:
    """Return how often each kind was killed at each moment."""
    found: dict[str, int] = defaultdict(int)
    for each in done:
        found[f"{each.kind} at {each.moment}"] += 1
    return dict(found)
