"""A small server that speaks the hub's REST API as far as the binder uses it, on a free port of loopback.

What it answers is set by the tests; what it was asked is written down. It behaves as JupyterHub 6 was seen to.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

from pangeo_binder.errors import TicketInvalid
from pangeo_binder.hub.admissions import AdmissionTable, NotReady
from pangeo_binder.model import from_wire, to_wire
from pangeo_binder.policy.counters import Renewal, Reservation, takes
from pangeo_binder.ticket import read

TOKEN = "the binder's own token"
KEYS = ["the key that signs", "an older key"]


@dataclass
class SmallHub:
    """A hub whose servers hold tickets and run nothing."""

    url: str = ""
    calls: list[str] = field(default_factory=list)
    """`METHOD /path` below `/hub/api`, in order."""
    servers: dict[str, str] = field(default_factory=dict)
    """The tickets of servers starting or running, by user."""
    users: set[str] = field(default_factory=set)
    broken: dict[str, web.Response] = field(default_factory=dict)
    """Answers in place of the good ones, by the beginning of a call."""
    broken_calls: int = 0
    """How many calls are broken before the hub is whole again; 0 for all."""
    says: tuple[dict[str, Any], ...] = ({"progress": 50, "message": "Half way"}, {"progress": 100, "ready": True})
    """The events of a server's progress."""
    says_then: tuple[dict[str, Any], ...] = ()
    """The events after `come_up`."""
    come_up: asyncio.Event = field(default_factory=asyncio.Event)
    answers_start: asyncio.Event = field(default_factory=asyncio.Event)
    """What the answer to the start of a server waits for, once it is starting."""
    busy: bool = False
    """Whether it starts as many servers as it may."""
    ends: bool = True
    """Whether the stream of progress ends after them; else it stays open."""
    tears: bool = False
    """Whether the connection breaks after them."""
    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    """What the answer to a reservation waits for, once it is made."""
    admissions: AdmissionTable = field(default_factory=lambda: AdmissionTable(binders=0))
    deleted: asyncio.Event = field(default_factory=asyncio.Event)
    may_stop: asyncio.Event = field(default_factory=asyncio.Event)
    """What the end of a server waits for."""

    def __post_init__(self) -> None:
        self.go_on.set()
        self.come_up.set()
        self.answers_start.set()
        self.may_stop.set()

    @web.middleware
    async def noted(self, request: web.Request, handler: Any) -> web.StreamResponse:
        """Write the call down; refuse it without the token, break it where a test wants that."""
        if request.headers.get("Authorization") != f"token {TOKEN}":
            raise web.HTTPForbidden
        call = f"{request.method} {request.path.removeprefix('/hub/api')}"
        self.calls.append(call)
        for beginning, answer in self.broken.items():
            if call.startswith(beginning):
                self.broken_calls -= 1
                if not self.broken_calls:
                    self.broken = {}
                return web.Response(status=answer.status, body=answer.body, content_type=answer.content_type)
        answered: web.StreamResponse = await handler(request)
        return answered

    async def make_user(self, request: web.Request) -> web.Response:
        self.users.add(request.match_info["user"])
        return web.json_response({}, status=201)

    async def delete_user(self, request: web.Request) -> web.Response:
        self.users.discard(request.match_info["user"])
        self.deleted.set()
        return web.Response(status=204)

    async def start(self, request: web.Request) -> web.Response:
        if self.busy:
            return web.Response(status=429)
        ticket = (await request.json())["ticket"]
        with suppress(TicketInvalid):
            assert self.admissions.claim(read(ticket, KEYS).id), "a server without a seat"
        self.servers[request.match_info["user"]] = ticket
        await self.answers_start.wait()
        return web.Response(status=202)

    async def stop(self, request: web.Request) -> web.Response:
        await self.may_stop.wait()
        self.servers.pop(request.match_info["user"], None)
        return web.Response(status=204)

    async def progress(self, request: web.Request) -> web.StreamResponse:
        stream = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await stream.prepare(request)
        for event in self.says:
            await stream.write(f"data: {json.dumps(event)}\n\n:keepalive\n\n".encode())
        await self.come_up.wait()
        for event in self.says_then:
            await stream.write(f"data: {json.dumps(event)}\n\n".encode())
        if self.tears:
            assert request.transport is not None
            request.transport.abort()
        elif not self.ends:
            await asyncio.sleep(3600)
        return stream

    async def list(self, request: web.Request) -> web.Response:
        offset, limit = int(request.query["offset"]), int(request.query["limit"])
        page = sorted(self.servers.items())[offset : offset + limit]
        models = [{"name": user, "servers": {"": self._model(user, ticket)}} for user, ticket in page]
        return web.json_response(models)

    async def reserve(self, request: web.Request) -> web.Response:
        wanted = from_wire(Reservation, await request.json())
        try:
            full = self.admissions.reserve(wanted, self._running())
        except NotReady:
            return web.Response(status=503)
        await self.go_on.wait()
        return web.json_response(to_wire(full) if full else {}, status=409 if full else 201)

    async def renew(self, request: web.Request) -> web.Response:
        lost = self.admissions.renew(from_wire(Renewal, await request.json()), self._running())
        return web.json_response({"lost": lost, "servers": {"small": len(self.servers)}})

    async def release(self, request: web.Request) -> web.Response:
        self.admissions.release(request.match_info["launch"])
        return web.Response(status=204)

    def _running(self) -> dict[str, dict[str, float]]:
        running = {}
        for ticket in self.servers.values():
            with suppress(TicketInvalid):
                launch = read(ticket, KEYS)
                running[launch.id] = takes(launch.grant, launch.network, launch.person)
        return running

    def _model(self, user: str, ticket: str) -> dict[str, Any]:
        moment = "2026-11-01T12:00:00Z"
        options = {"ticket": ticket}
        url = f"/user/{user}/"
        return {"ready": True, "url": url, "started": moment, "last_activity": moment, "user_options": options}

    def app(self) -> web.Application:
        app = web.Application(middlewares=[self.noted])
        app.router.add_get("/hub/api/users", self.list)
        app.router.add_post("/hub/api/pangeo-binder/admissions", self.reserve)
        app.router.add_put("/hub/api/pangeo-binder/admissions", self.renew)
        app.router.add_delete("/hub/api/pangeo-binder/admissions/{launch}", self.release)
        app.router.add_post("/hub/api/pangeo-binder/users/{user}", self.make_user)
        app.router.add_delete("/hub/api/pangeo-binder/users/{user}", self.delete_user)
        app.router.add_post("/hub/api/users/{user}/server", self.start)
        app.router.add_delete("/hub/api/users/{user}/server", self.stop)
        app.router.add_get("/hub/api/users/{user}/server/progress", self.progress)
        return app


@asynccontextmanager
async def small_hub(hub: SmallHub | None = None) -> AsyncIterator[SmallHub]:
    """Start one and give it; nothing of it is left."""
    hub = hub or SmallHub()
    server = TestServer(hub.app(), host="127.0.0.1")
    await server.start_server(shutdown_timeout=0.1)
    hub.url = str(server.make_url("/hub/api"))
    yield hub
    await server.close()
