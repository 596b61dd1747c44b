"""The storage process: the S3 front on one port, the credentials API with health and metrics on another.

`serve` starts both; `run` also waits for a signal. Sessions must not reach the credentials API. HTTP and wiring only:
the operations are in `service`, the answers to S3 clients in `s3.front`.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import math
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from .. import trace
from ..connections import IDLE_SECONDS, Connections, limit_connections
from ..errors import UserError
from ..liveness import HubIsAlive, IsAlive
from ..loopback import WRONG_HOST, is_named
from ..model import StorageGrant, from_wire
from ..trace_http import continue_trace
from .durable import Durability
from .launches import StoredLaunch
from .s3.answers import error_answer
from .s3.errors import S3Error
from .service import StorageService

log = logging.getLogger(__name__)

_OPEN_PATHS = ("/health", "/metrics")
_SERVICE = web.AppKey("service", StorageService)
_MAX_ADMIN_BYTES = 256 * 1024
_ADMIN_CONNECTIONS = 256
_STOP_SECONDS = 5
_SWITCH_SECONDS = 0.0005
"""How long a thread may keep the interpreter; with Python's 5 ms, listings delay every step of other requests by it."""

_Runner = web.ServerRunner | web.AppRunner
DataHandler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Right(StrEnum):
    """A part of the credentials API that a caller may use."""

    ISSUE = "issue"
    """Grant and revoke: the hub."""
    ENVIRONMENT = "environment"
    """Read a live launch's environment variables again: the gateway, for workers."""
    LOOK = "look"
    """Read usage: the operator."""


@dataclass(frozen=True, slots=True)
class AdminCaller:
    """A caller of the credentials API: its token and the only rights it has."""

    token: str = field(repr=False)
    rights: frozenset[Right]


@dataclass(frozen=True, slots=True)
class StorageSettings:
    """Settings of the storage process; keys and tokens are secrets."""

    state_dir: Path
    """The directory of all its files: objects, uploads, the launch table."""
    public_endpoint: str
    """The URL of the data port, as sessions see it."""
    master_key: str = field(repr=False)
    """The key from which all launches' keys derive; changing it invalidates all of them."""
    admin_callers: tuple[AdminCaller, ...] = field(repr=False)
    """The callers of the credentials API, each with its rights."""
    data_host: str = "127.0.0.1"
    data_port: int = 9100
    """0 for any free port."""
    admin_host: str = "127.0.0.1"
    admin_port: int = 9101
    """0 for any free port."""
    reap_seconds: float = 10
    durability: Durability = Durability.FULL
    """What is on the disk before a write is acknowledged."""
    hosts: tuple[str, ...] = ()
    """The names in `Host`, without a port, that requests on both ports may have; empty for any."""
    connections: int = 4096
    """How many connections the data port keeps open; all launches together may have half as many requests."""
    address_connections: int = 512
    """How many of them one address may have, such as a session's pod."""
    keepalive_seconds: float = 5
    """How long completing an upload may take before its answer begins."""
    hub_api_url: str = ""
    """JUPYTERHUB_API_URL; if empty, the reaper does not check whether a launch's server still runs."""
    hub_api_token: str = field(default="", repr=False)


class StorageRunner:
    """The two listeners and the reaper of the running process. Stop them with `cleanup`."""

    def __init__(self, service: StorageService) -> None:
        self.service = service
        self.data_port = 0
        self.admin_port = 0
        self._runners: list[_Runner] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self, settings: StorageSettings) -> None:
        """Listen on both ports, and reap every `reap_seconds`."""
        # Bodies are stored as they were signed, so a gzip body must not be decompressed. The front writes its own log:
        # aiohttp's contains whole URLs, and a presigned URL contains a session token.
        s3 = web.Server(
            _for_hosts(settings.hosts, self.service.front.handle), auto_decompress=False, access_log=None,
            keepalive_timeout=IDLE_SECONDS,
        )  # fmt: skip
        limit_connections(s3, Connections(settings.connections, settings.address_connections))
        data = web.ServerRunner(s3, shutdown_timeout=_STOP_SECONDS)
        app = admin_app(self.service, settings.admin_callers, settings.hosts)
        admin = web.AppRunner(app, access_log=None, shutdown_timeout=_STOP_SECONDS, keepalive_timeout=IDLE_SECONDS)
        self.data_port = await self._listen(data, settings.data_host, settings.data_port)
        self.admin_port = await self._listen(admin, settings.admin_host, settings.admin_port)
        self._tasks = [asyncio.create_task(self._reap(settings.reap_seconds))]

    async def _listen(self, runner: _Runner, host: str, port: int) -> int:
        self._runners.append(runner)
        await runner.setup()
        if isinstance(runner, web.AppRunner):
            limit_connections(runner.server, Connections(_ADMIN_CONNECTIONS))
        await web.TCPSite(runner, host, port).start()
        bound: int = runner.addresses[0][1]
        return bound

    async def _reap(self, seconds: float) -> None:
        work: Callable[[], Awaitable[None]] = self.service.catch_up
        while True:
            try:
                await work()
            except Exception:
                log.exception("reaping failed, next attempt in %s s", seconds)
            await asyncio.sleep(seconds)
            work = self._tick

    async def _tick(self) -> None:
        await self.service.tick(time.time())

    async def cleanup(self) -> None:
        """Stop listening and reaping; launches stay valid and are loaded at the next start."""
        for task in self._tasks:
            task.cancel()
            await asyncio.wait([task])
        for runner in self._runners:
            await runner.cleanup()
        await self.service.close()


async def serve(settings: StorageSettings, is_alive: IsAlive | None = None) -> StorageRunner:
    """Start the storage process's servers in this event loop and return their runner.

    `is_alive` returns whether a launch's server runs; by default it asks JupyterHub if `settings` has its URL.
    Raises ValueError if a key or token of `settings` is missing, OSError if a port is not available.
    """
    tokens = [caller.token for caller in settings.admin_callers]
    if not settings.master_key or not tokens or not all(tokens):
        raise ValueError("The storage process needs a master key and at least one admin token, none of them empty.")
    if is_alive is None and settings.hub_api_url:
        is_alive = HubIsAlive(settings.hub_api_url, settings.hub_api_token)
    service = StorageService(
        settings.state_dir, settings.public_endpoint, settings.master_key, is_alive, settings.durability,
        settings.keepalive_seconds,
    )  # fmt: skip
    await service.start()
    runner = StorageRunner(service)
    try:
        await runner.start(settings)
    except BaseException:
        await runner.cleanup()
        raise
    log.info("storage: data on port %s, credentials API on port %s", runner.data_port, runner.admin_port)
    return runner


def run(settings: StorageSettings) -> None:
    """Run the storage process until SIGTERM or SIGINT. Raises SystemExit if its state cannot be read."""
    try:
        asyncio.run(_run(settings))
    except UserError as error:
        raise SystemExit(f"The storage process cannot start. {error}") from None


async def _run(settings: StorageSettings) -> None:
    sys.setswitchinterval(_SWITCH_SECONDS)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    runner = await serve(settings)
    try:
        await stop.wait()
    finally:
        await runner.cleanup()


def _is_served(request: web.BaseRequest, hosts: tuple[str, ...]) -> bool:
    """Return whether the request names one of `hosts`; if there are none, each name is served."""
    return not hosts or is_named(request.headers.get("Host", ""), hosts)


def _for_hosts(hosts: tuple[str, ...], handle: DataHandler) -> DataHandler:
    async def check(request: web.BaseRequest) -> web.StreamResponse:
        if not _is_served(request, hosts):
            return error_answer(S3Error("MisdirectedRequest", WRONG_HOST), "")
        return await handle(request)

    return check


def admin_app(service: StorageService, callers: tuple[AdminCaller, ...], hosts: tuple[str, ...]) -> web.Application:
    """Return the credentials API for `callers`, each with its own rights, at the names `hosts` (empty: at any)."""
    checks = [continue_trace, _errors, _check_host(hosts), _authorize(callers)]
    app = web.Application(middlewares=checks, client_max_size=_MAX_ADMIN_BYTES)
    app[_SERVICE] = service
    app.router.add_get("/health", _health)
    app.router.add_get("/metrics", _metrics)
    app.router.add_get("/launches", _launches)
    app.router.add_get("/launches/{id}", _launch)
    app.router.add_get("/launches/{id}/environment", _environment)
    app.router.add_put("/launches/{id}", _issue)
    app.router.add_delete("/launches/{id}", _revoke)
    return app


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Convert errors of the credentials API to JSON answers; no other code does so."""
    try:
        return await handler(request)
    except UserError as error:
        return web.json_response({"error": error.message, "hint": error.hint}, status=error.status)
    except web.HTTPException as error:
        return web.json_response({"error": f"{error.reason}.", "hint": ""}, status=error.status)


def _check_host(hosts: tuple[str, ...]) -> Any:
    @web.middleware
    async def check_host(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not _is_served(request, hosts):
            return web.json_response({"error": WRONG_HOST, "hint": ""}, status=421)
        return await handler(request)

    return check_host


def _right_for(request: web.Request) -> Right:
    """Return the right that this request needs."""
    if request.method != "GET":
        return Right.ISSUE
    return Right.ENVIRONMENT if request.path.endswith("/environment") else Right.LOOK


def _authorize(callers: tuple[AdminCaller, ...]) -> Any:
    @web.middleware
    async def authorize(request: web.Request, handler: Handler) -> web.StreamResponse:
        given = request.headers.get("Authorization", "").encode("utf-8", "surrogateescape")
        if request.path in _OPEN_PATHS:
            return await handler(request)
        # compare with all tokens, so that the time does not reveal which one matched
        known = [caller for caller in callers if hmac.compare_digest(given, f"Bearer {caller.token}".encode())]
        if not known:
            return web.json_response({"error": "The credentials API needs a valid token.", "hint": ""}, status=401)
        if _right_for(request) not in known[0].rights:
            return web.json_response({"error": "This token does not permit this request.", "hint": ""}, status=403)
        if launch_id := request.match_info.get("id"):
            trace.enter_launch(launch_id)
        return await handler(request)

    return authorize


async def _health(request: web.Request) -> web.Response:
    capacity = request.app[_SERVICE].capacity()
    about = {"granted_bytes": capacity.granted, "volume_bytes": capacity.volume}
    return web.json_response({"ok": True, **about, "overcommitted": capacity.overcommitted})


async def _metrics(request: web.Request) -> web.Response:
    return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})


def _to_json(launch: StoredLaunch) -> dict[str, Any]:
    return {
        "id": launch.id,
        "owner": launch.owner,
        "scratch": f"s3://{launch.scope.scratch.bucket}/{launch.scope.scratch.bare}",
        "used_bytes": launch.usage.stored,
        "scratch_bytes": launch.scope.scratch_bytes,
        "files": launch.files.stored,
        "files_limit": launch.limits.objects,
        "egress_bytes": launch.usage.egress,
        "egress_limit_bytes": launch.scope.egress_bytes,
        "issued_at": launch.issued_at,
        "expires_at": launch.expires_at,
        "revoked": launch.revoked_at is not None,
        "revoked_at": launch.revoked_at,
        "pruned": launch.pruned,
    }


async def _launches(request: web.Request) -> web.Response:
    return web.json_response({"launches": [_to_json(launch) for launch in request.app[_SERVICE].table]})


async def _launch(request: web.Request) -> web.Response:
    launch = await request.app[_SERVICE].usage(request.match_info["id"])
    if launch is None:
        raise web.HTTPNotFound
    return web.json_response(_to_json(launch))


async def _environment(request: web.Request) -> web.Response:
    """Return a live launch's environment variables again, for its Dask workers."""
    issued = await request.app[_SERVICE].credentials(request.match_info["id"], time.time())
    if issued is None:
        raise web.HTTPNotFound
    return web.json_response({"environment": dict(issued.environment)}, headers={"Cache-Control": "no-store"})


class GrantInvalid(UserError):
    """The body of a grant request is not valid, or its grant cannot be served."""

    reason = "storage_grant_invalid"


async def _issue(request: web.Request) -> web.Response:
    try:
        body = await request.json()
        grant, owner, expires_at = from_wire(StorageGrant, body["grant"]), str(body["owner"]), float(body["expires_at"])
        if not math.isfinite(expires_at):
            raise ValueError
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError):
        raise GrantInvalid("The body must be a JSON object with grant, owner and expires_at.") from None
    try:
        issued = await request.app[_SERVICE].grant(request.match_info["id"], owner, grant, expires_at)
    except ValueError as error:
        raise GrantInvalid(error.args[0]) from None
    body = {"environment": dict(issued.environment), "scratch": issued.scratch, "expires_at": issued.expires_at}
    return web.json_response(body, headers={"Cache-Control": "no-store"})


async def _revoke(request: web.Request) -> web.Response:
    await request.app[_SERVICE].revoke(request.match_info["id"])
    return web.Response(status=204)
