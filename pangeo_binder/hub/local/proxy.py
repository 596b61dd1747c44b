"""The hub's proxy for the local profile: traefik, restarted when it dies.

JupyterHub restarts its default proxy but not traefik. The routes are in a file, so a restarted traefik has them at
once. The hub answers only to loopback's host names. Runs in the hub.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
from http import HTTPStatus
from typing import Any

import bcrypt
from jupyterhub_traefik_proxy.fileprovider import TraefikFileProviderProxy
from tornado.httputil import HTTPServerRequest
from tornado.routing import Matcher, Rule
from tornado.web import RequestHandler
from traitlets import default

from ...local.parent import ends_with_parent
from ...loopback import LOOPBACK_NAMES, WRONG_HOST, is_named

_CHECK_SECONDS = 1.0
_HASH_ROUNDS = 4
"""bcrypt's minimum. The password is a random key, which needs no slow hash; with the default of 12, each request costs
traefik a quarter of a second of CPU time, and each launch sends at least two."""


class _OtherHost(Matcher):
    """A request to another host name than loopback's."""

    def match(self, request: HTTPServerRequest) -> dict[str, Any] | None:
        return None if is_named(request.host, LOOPBACK_NAMES) else {}


class _Refusal(RequestHandler):
    """The answer to a request to another host name."""

    def prepare(self) -> None:
        self.set_status(HTTPStatus.MISDIRECTED_REQUEST)
        self.finish({"status": int(HTTPStatus.MISDIRECTED_REQUEST), "message": WRONG_HOST})


class WatchedTraefikProxy(TraefikFileProviderProxy):
    """A file-provider traefik that is restarted when its process ends."""

    _watching: asyncio.Task[None] | None = None

    @default("traefik_api_hashed_password")
    def _quick_hash(self) -> str:
        return bcrypt.hashpw(self.traefik_api_password.encode(), bcrypt.gensalt(_HASH_ROUNDS)).decode()

    async def start(self) -> None:
        """Start traefik and watch its process; from now on, the hub refuses other host names.

        JupyterHub has no option for such a check. It calls this before it listens.
        """
        self.app.tornado_application.default_router.rules.insert(0, Rule(_OtherHost(), _Refusal))
        await super().start()
        self._watching = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        """Stop watching, then stop traefik."""
        if self._watching is not None:
            self._watching.cancel()
        await super().stop()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_CHECK_SECONDS)
            if self.traefik_process.poll() is not None:
                self.log.error("traefik ended with status %s; starting it again", self.traefik_process.returncode)
                self._start_traefik()

    def _start_traefik(self) -> None:
        command = ends_with_parent(["traefik", "--configfile", self.static_config_file])
        self.traefik_process = subprocess.Popen(command, env={**os.environ, **self.traefik_env})
