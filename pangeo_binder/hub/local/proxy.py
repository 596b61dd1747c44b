"""The hub's proxy for the local profile: traefik, restarted when it dies.

JupyterHub restarts its default proxy but not traefik. The routes are in a file, so a restarted traefik has them at
once. Traefik reads the whole file at each change, so changes that come together are written together, and one look at
traefik's API serves all of them. The hub answers only to
loopback's host names. Runs in the hub.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Any

import bcrypt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from jupyterhub.utils import exponential_backoff
from jupyterhub_traefik_proxy.fileprovider import TraefikFileProviderProxy
from jupyterhub_traefik_proxy.traefik_utils import generate_alias
from tornado.httputil import HTTPServerRequest
from tornado.routing import Matcher, Rule
from tornado.web import RequestHandler
from traitlets import Instance, default

from ...local.parent import ends_with_parent
from ...logs import is_json
from ...loopback import LOOPBACK_NAMES, WRONG_HOST, is_named

_CHECK_SECONDS = 1.0
_GATHER_SECONDS = 0.005
"""How long a change of the routes waits for others."""
_LOOK_SECONDS = 0.005
"""When traefik's API is asked a second time for a route; it answers within 3 ms, and then less and less often. The base
class waits up to 0.2 s, which is longer than all the rest of a launch."""
_MANY_ROUTES = 10_000
_HASH_ROUNDS = 4
"""bcrypt's minimum. The password is a random key, which needs no slow hash; with the default of 12, each request costs
traefik a quarter of a second of CPU time, and each launch sends at least two."""


@dataclass(slots=True)
class _Changes:
    """Changes of the routes that are written together."""

    loaded: asyncio.Task[None]
    added: list[str] = field(default_factory=list)


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
    _gathering: _Changes | None = None
    """The changes that are not written yet."""
    _loading = Instance(set, args=(), help="The tasks that write changes or wait until traefik has loaded them.")
    _writing = Instance(asyncio.Lock, args=(), help="Held from the write of changes until traefik has loaded them.")

    @default("extra_static_config")
    def _quiet(self) -> dict[str, dict[str, Any]]:
        return {
            "global": {"checkNewVersion": False},  # traefik would ask a server of its makers
            "log": {"format": "json" if is_json() else "common"},
        }

    @default("concurrency")
    def _unbounded(self) -> int:
        """Return how many routes may be added at once; a look at traefik's API for each would need a bound."""
        return _MANY_ROUTES

    @default("traefik_api_hashed_password")
    def _quick_hash(self) -> str:
        return bcrypt.hashpw(self.traefik_api_password.encode(), bcrypt.gensalt(_HASH_ROUNDS)).decode()

    async def start(self) -> None:
        """Start traefik and watch its process; from now on, the hub refuses other host names.

        JupyterHub has no option for such a check. It calls this before it listens.
        """
        self.app.tornado_application.default_router.rules.insert(0, Rule(_OtherHost(), _Refusal))
        certificate, key = (Path(self.static_config_file).with_suffix(suffix) for suffix in (".crt", ".key"))
        _write_certificate(certificate, key)
        files = {"certFile": str(certificate), "keyFile": str(key)}
        tls = {"stores": {"default": {"defaultCertificate": files}}}
        self.set_trait("extra_dynamic_config", {**self.extra_dynamic_config, "tls": tls})
        await super().start()
        self._watching = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        """Stop watching, then stop traefik."""
        if self._watching is not None:
            self._watching.cancel()
        for task in self._loading:
            task.cancel()
        await super().stop()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_CHECK_SECONDS)
            if self.traefik_process.poll() is not None:
                self.log.error("traefik ended with status %s; starting it again", self.traefik_process.returncode)
                self._start_traefik()

    def _persist_dynamic_config(self) -> None:
        """Write the routes soon, with the changes that come meanwhile."""
        if self._gathering is None:
            task = asyncio.create_task(self._load(), name="write of the routes")
            self._loading.add(task)
            task.add_done_callback(self._loaded)
            self._gathering = _Changes(task)

    async def _load(self) -> None:
        """Write the routes and wait until traefik has loaded them. Raises TimeoutError."""
        await asyncio.sleep(_GATHER_SECONDS)
        async with self._writing:
            changes, self._gathering = self._gathering, None
            super()._persist_dynamic_config()
            routers = self.dynamic_config["http"]["routers"]
            added = changes.added if changes is not None else []
            if written := [route for route in added if generate_alias(route, "router") in routers]:
                await self._wait_until_loaded(written[-1])

    def _loaded(self, task: asyncio.Task[None]) -> None:
        self._loading.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.log.error("The routes were not written or not loaded: %s", error)

    async def _wait_for_route(self, routespec: str) -> None:
        """Wait until traefik has the route, which was changed in the same step of the event loop."""
        if self._gathering is not None:
            self._gathering.added.append(routespec)
            await asyncio.shield(self._gathering.loaded)

    async def _wait_until_loaded(self, routespec: str) -> None:
        """Wait until traefik has the route, and so all that were written with it: it loads a file as a whole."""

        async def has_route() -> bool:
            return bool(await self._check_for_traefik_service(routespec, "router"))

        timeout = self.check_route_timeout
        await exponential_backoff(has_route, "no route", _LOOK_SECONDS, scale_factor=1.5, max_wait=1, timeout=timeout)

    def _start_traefik(self) -> None:
        super()._persist_dynamic_config()  # traefik does not start without its file
        command = ends_with_parent(["traefik", "--configfile", self.static_config_file])
        self.traefik_process = subprocess.Popen(command, env={**os.environ, **self.traefik_env})


def _write_certificate(certificate: Path, key: Path) -> None:
    """Write a certificate that nobody is shown.

    Without one, traefik makes an RSA key each time it loads its routes: 20 to 60 ms of processor time for each launch.
    """
    made, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "unused")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, made.public_key(), x509.random_serial_number())
    built = builder.not_valid_before(now).not_valid_after(now + timedelta(days=3650)).sign(made, hashes.SHA256())
    certificate.write_bytes(built.public_bytes(serialization.Encoding.PEM))
    key.touch(mode=0o600)
    key.write_bytes(
        made.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
