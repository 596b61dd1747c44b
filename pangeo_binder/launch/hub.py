"""The binder's client of JupyterHub's REST API: reserve a seat, start a server and follow it, list what runs, stop it.

Connections are not limited: one slow spawn must never make another launch wait for a free connection. Reservations
alone, which are quick, wait for one another: a thousand clicks must not open a thousand connections. A hub that has
stopped answering is not called by every launch, but by the renewals of seats, which show when it is back. Runs in the
binder. API: https://jupyterhub.readthedocs.io/en/stable/reference/rest-api.html
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeVar
from urllib.parse import quote

import aiohttp

from ..answers import AnswerInvalid, AnswerTooLarge, is_no_answer, parse_json, read_bytes, read_lines, read_object
from ..command import LINE_CHARACTERS
from ..errors import HubStarting, HubUnavailable, SpawnFailed, TicketInvalid, UserError, refusal_from
from ..model import Launch, Server, from_wire, to_wire
from ..peers import Peering, PeerKind, Peers
from ..policy.counters import Full, Renewal, Reservation
from ..ticket import read, token_of
from ..trace_http import passing_on

T = TypeVar("T")

log = logging.getLogger(__name__)

_CALL_SECONDS = 30
_SEATS_AT_ONCE = 50
"""How many seats are reserved or given back at a time: the hub answers one after another, each on its connection."""
_RENEW_SECONDS = 5
"""How long a renewal may take; one that fails has to be tried again before the hub's grace ends."""
_START_SECONDS = 90
"""How long each of the two calls of a start may take: a hub that starts a hundred servers answers late."""
_PAGE = 50
"""How many users are read at a time; fewer, if the answer would be too large. A user's ticket has some KiB."""
_OVERLAP = 10
"""How many users of a page are read again with the next one: users deleted meanwhile move the others forward."""
_PAGES = 2000
"""More pages than this are no list of servers."""
_AGAIN = "Try again in a minute."
_BUSY = 429
"""The hub's answer while it starts as many servers as it may (`JupyterHub.concurrent_spawn_limit`)."""
_BUSY_SECONDS = 120
"""How long a launch waits for a busy hub; the ticket has to last until it is taken."""
_BUSY_LOOK_SECONDS = 5
"""How often it asks again; the hub proposes half a minute or more, which is meant for people."""
_STOPPING, _MISSING = 400, 404
"""The hub's answer to the deletion of a user whose server is stopping."""
_STOP_SECONDS, _STOP_LOOK_SECONDS = 90, 1.0
"""How long, and how often, the stop of a server is repeated. One that ignores signals needs 15 s, and a hub that was
restarted about as long."""
_FORGOTTEN_SECONDS = 10
"""For how long a hub that has stopped answering is called by nothing but renewals."""
_FAILED = "Spawn failed: "
_ADMISSIONS = "/pangeo-binder/admissions"
_RESERVED, _FULL, _STARTING = 201, 409, 503


class _TooLarge(HubUnavailable):
    """The hub's answer is larger than this binder reads."""


@dataclass(frozen=True, slots=True)
class Renewed:
    """The hub's answer to one part of a report."""

    lost: tuple[str, ...]
    """The launches that no longer hold a seat."""
    servers: dict[str, int]
    """How many servers start, run or stop, by tier."""


@dataclass(frozen=True, slots=True)
class OwnServer:
    """A server of one person, for that person."""

    launch: Launch
    ready: bool
    started: str
    """When it started, in ISO 8601."""
    last_activity: str
    token: str = field(repr=False)
    """The server's own token."""

    @property
    def ends(self) -> str:
        """When it ends at the latest, in ISO 8601; empty while it starts."""
        if not self.started:
            return ""
        age = timedelta(seconds=self.launch.grant.server.max_age_seconds)
        return (datetime.fromisoformat(self.started) + age).isoformat()


class Hub:
    """JupyterHub as the binder's service token sees it."""

    def __init__(self, api_url: str, token: str, ticket_keys: list[str]) -> None:
        self._api_url = api_url.rstrip("/")
        self._token = token
        self._ticket_keys = ticket_keys
        self._session: aiohttp.ClientSession | None = None
        peering = Peering(PeerKind.HUB, is_no_answer, lambda _: _away(), seconds=_FORGOTTEN_SECONDS)
        self._peers = Peers(peering)
        self._seats = asyncio.Semaphore(_SEATS_AT_ONCE)

    @property
    def _http(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),
                headers={"Authorization": f"token {self._token}"},
                timeout=aiohttp.ClientTimeout(total=_CALL_SECONDS),
                trace_configs=[passing_on()],
            )
        return self._session

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()

    async def _call(self, method: str, path: str, *, ok: tuple[int, ...], **kwargs: Any) -> Any:
        """Return the answer (None if it is not whole JSON); any status but `ok` raises HubUnavailable."""
        return (await self._answer(method, path, ok=ok, **kwargs))[1]

    async def _answer(self, method: str, path: str, *, ok: tuple[int, ...], **kwargs: Any) -> tuple[int, Any]:
        """Make a call that is safe to repeat, as all of this API are but the start of a server."""

        async def ask() -> tuple[int, bytes]:
            async with self._http.request(method, f"{self._api_url}{path}", **kwargs) as response:
                return response.status, await read_bytes(response)

        try:
            if method == "PUT":
                status, body = await self._peers.probe(ask, self._api_url)
            else:
                status, body = await self._peers.call(ask, self._api_url, repeat=True)
        except AnswerTooLarge:
            raise _TooLarge("JupyterHub's answer cannot be read.", _AGAIN) from None
        except (aiohttp.ClientError, TimeoutError) as error:
            log.error("JupyterHub did not answer %s: %s", method, type(error).__name__)
            raise _away() from None
        if status not in ok:
            log.error("JupyterHub answered %s with %d: %s", method, status, body[:300].decode(errors="replace"))
            raise HubUnavailable(f"JupyterHub answered with an error ({status}).", _AGAIN)
        try:
            return status, parse_json(body)
        except AnswerInvalid:
            return status, None

    async def reserve(self, wanted: Reservation) -> Full | None:
        """Reserve what a launch takes; return the limit that is full instead, if one is.

        Raises HubStarting while the hub takes no reservations yet, and HubUnavailable.
        """
        ok = (_RESERVED, _FULL, _STARTING)
        async with self._seats:
            status, answer = await self._answer("POST", _ADMISSIONS, ok=ok, json=to_wire(wanted))
        if status == _STARTING:
            raise HubStarting("JupyterHub has just started and is counting what runs.", _AGAIN)
        return None if status == _RESERVED else _read(Full, answer)

    async def renew(self, renewal: Renewal) -> Renewed:
        """Keep the reservations in one part of this binder's report. Raises HubUnavailable."""
        timeout = aiohttp.ClientTimeout(total=_RENEW_SECONDS)
        return _read(Renewed, await self._call("PUT", _ADMISSIONS, ok=(200,), json=to_wire(renewal), timeout=timeout))

    async def release(self, launch_id: str) -> None:
        """Give the reservation of a launch back. Raises HubUnavailable; then it expires by itself."""
        async with self._seats:
            await self._call("DELETE", f"{_ADMISSIONS}/{launch_id}", ok=(204,))

    async def start(self, launch: Launch, ticket: str) -> AsyncGenerator[str, None]:
        """Start the launch's server with its ticket and yield what the hub says of it until it is ready.

        Raises SpawnFailed with the hub's reason, TicketInvalid if it refuses the ticket, SeatLost, HubUnavailable.
        """
        server = _server_path(launch)
        deadline = time.monotonic() + _BUSY_SECONDS
        try:
            while (status := await self._ask(launch, ticket)) == _BUSY:
                if time.monotonic() >= deadline:
                    raise HubUnavailable("JupyterHub is starting as many servers as it can.", _AGAIN)
                yield "Many servers are starting, waiting for this one's turn"
                await asyncio.sleep(_BUSY_LOOK_SECONDS)
            if status == 201:
                return
            async with aclosing(self._progress(f"{server}/progress")) as progress:
                async for message in progress:
                    yield message
        except (aiohttp.ClientError, TimeoutError) as error:
            log.error("The hub was lost while launch %s started: %s", launch.id, type(error).__name__)
            raise HubUnavailable("JupyterHub was lost while the server started.", _AGAIN) from None

    async def _ask(self, launch: Launch, ticket: str) -> int:
        """Ask for the launch's server and return 201 (ready), 202 (starting) or `_BUSY`.

        An anonymous launch's user is made if missing; a person's account is never made here.
        """
        timeout = aiohttp.ClientTimeout(total=_START_SECONDS)
        if not launch.person:
            await self._call("POST", _anonymous_path(launch.user), ok=(201, 409), timeout=timeout)

        async def ask() -> int:
            asked = self._http.post(f"{self._api_url}{_server_path(launch)}", json={"ticket": ticket}, timeout=timeout)
            async with asked as response:
                if response.status not in (201, 202, _BUSY):
                    raise _refusal(str((await read_object(response)).get("message", "")))
                return response.status

        return await self._peers.call(ask, self._api_url)  # not repeated, because a ticket is used once

    async def _progress(self, path: str) -> AsyncGenerator[str, None]:
        """Yield progress messages until the ready event; a server that fails raises."""
        timeout = aiohttp.ClientTimeout(total=None, sock_read=60)  # the hub sends a keepalive every 8 s
        async with self._http.get(f"{self._api_url}{path}", timeout=timeout) as stream:
            if stream.status in (400, 404):  # it is starting no longer, and the hub has forgotten why
                raise SpawnFailed("The session's server ended while it was starting.", _AGAIN)
            stream.raise_for_status()
            async with aclosing(read_lines(stream)) as lines:
                async for line in lines:
                    event = parse_json(line[5:]) if line.startswith(b"data:") else {}
                    if not isinstance(event, dict):
                        raise AnswerInvalid("an event that is not a JSON object")
                    if event.get("ready"):
                        return
                    if event.get("failed"):
                        raise _refusal(str(event.get("message", "")))
                    if event.get("message"):
                        yield str(event["message"])[:LINE_CHARACTERS]
        raise HubUnavailable("JupyterHub stopped reporting how the server starts.", _AGAIN)

    async def stop(self, launch: Launch) -> None:
        """Stop and remove the launch's server, in whatever state it is, without waiting for the culler.

        The user of an anonymous launch is deleted, a person's account never. Raises HubUnavailable if that is not done
        after many tries.
        """
        deadline = time.monotonic() + _STOP_SECONDS
        while not await self._is_gone(launch):
            if time.monotonic() >= deadline:
                raise HubUnavailable("JupyterHub did not stop the server in time.", _AGAIN)
            await asyncio.sleep(_STOP_LOOK_SECONDS)

    async def _is_gone(self, launch: Launch) -> bool:
        """Ask the hub once to stop and remove the server, with its user if that was made for it; return whether it did.

        The hub fails if the server begins to stop by itself meanwhile, and keeps the user of one that is stopping.
        """
        server = _server_path(launch)
        try:
            if launch.person:
                # 202: it is removed once it has stopped
                status, _ = await self._answer("DELETE", server, ok=(202, 204, 400, 404), json={"remove": True})
                return status != _STOPPING
            await self._call("DELETE", server, ok=(202, 204, 400, 404))
            status, _ = await self._answer("DELETE", _anonymous_path(launch.user), ok=(204, 400, 404))
        except HubUnavailable:
            return False
        return status != _STOPPING

    async def servers(self) -> list[Server]:
        """Return every server the hub knows as starting or running that was started by a ticket."""
        found: dict[str, Server] = {}
        offset, limit = 0, _PAGE
        for _ in range(_PAGES):
            try:
                page = await self._call("GET", f"/users?state=active&offset={offset}&limit={limit}", ok=(200,))
            except _TooLarge:
                if limit == 1:
                    raise
                limit //= 2
                continue
            if not isinstance(page, list):  # whatever answered, no launch may count as not running for it
                break
            for user in page:
                servers = (server for model in user["servers"].values() if (server := self._server(model)))
                found |= {server.launch.id: server for server in servers}
                await asyncio.sleep(0)  # verifying the tickets of a page takes longer than others should wait
            if len(page) < limit:
                return list(found.values())
            offset += max(1, limit - _OVERLAP)
        raise HubUnavailable("JupyterHub's answer cannot be read.", _AGAIN)

    async def servers_of(self, person: str) -> list[OwnServer]:
        """Return the servers of one person's launches, the newest first. Raises HubUnavailable."""
        status, model = await self._answer("GET", _user_path(person), ok=(200, 404))
        if status == _MISSING:
            return []
        if not isinstance(model, dict):
            raise HubUnavailable("JupyterHub's answer cannot be read.", _AGAIN)
        servers = [found for each in (model.get("servers") or {}).values() if (found := self._own_server(each))]
        own = [server for server in servers if server.launch.person == person]
        return sorted(own, key=lambda server: server.started, reverse=True)

    def _own_server(self, model: dict[str, Any]) -> OwnServer | None:
        server = self._server(model)
        if server is None:
            return None
        token = token_of(model["user_options"]["ticket"], self._ticket_keys)
        return OwnServer(server.launch, server.ready, server.started, server.last_activity, token)

    async def environments_in_use(self) -> set[str]:
        """Return the ids of the environments of all servers."""
        return {server.launch.environment.id for server in await self.servers()}

    def _server(self, model: dict[str, Any]) -> Server | None:
        try:
            launch = read(str((model.get("user_options") or {})["ticket"]), self._ticket_keys)
        except (KeyError, TicketInvalid):
            return None
        return Server(launch, model["ready"], model["url"], model["started"] or "", model["last_activity"] or "")


def _away() -> HubUnavailable:
    return HubUnavailable("JupyterHub does not answer.", _AGAIN)


def _user_path(user: str) -> str:
    return f"/users/{quote(user, safe='')}"


def _anonymous_path(user: str) -> str:
    """Return the path at which the hub makes and deletes users of anonymous launches."""
    return f"/pangeo-binder{_user_path(user)}"


def _server_path(launch: Launch) -> str:
    """Return the path of the launch's server: the default server of its own user, or a named one of a person."""
    if not launch.server:
        return f"{_user_path(launch.user)}/server"
    return f"{_user_path(launch.user)}/servers/{quote(launch.server, safe='')}"


def _read(kind: type[T], answer: Any) -> T:
    """Return the answer as a noun; whatever answered, nobody is admitted by an answer that cannot be read."""
    try:
        return from_wire(kind, answer)
    except ValueError:
        raise HubUnavailable("JupyterHub's answer cannot be read.", _AGAIN) from None


def _refusal(message: str) -> UserError:
    """Return the error for the hub's message: our spawner's own, or one without the hub's internals."""
    refused = refusal_from(message.removeprefix(_FAILED))
    if refused is not None:
        return refused
    log.error("The hub could not start a server: %s", message[:300])
    return SpawnFailed("The server did not come up.", _AGAIN)
