"""The event stream of a launch: `/build/<provider>/<spec>`, for browsers and every BinderHub client.

Errors are events of the stream, because an EventSource cannot read the status of a response. A launch continues for a
while after its client disconnects (`resume`). Binder process.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from http import HTTPStatus
from typing import Any, Final, cast

from tornado.http1connection import HTTP1Connection
from tornado.httputil import HTTPHeaders
from tornado.iostream import StreamClosedError

from .. import trace
from ..errors import LoginNeeded, NotAllowed
from ..events import KEEPALIVE, Event, Phase, failed, sse
from ..model import Click
from ..repos.registry import provider_for
from .cors import ApiHandler
from .failure import to_user_error
from .launch_log import Launched
from .people import Person
from .resume import Followed
from .signin import SignedIn

_PART_CHARACTERS: Final = 16 << 10
"""Events that are ready are sent in parts of about this size, all that a slow client makes the binder hold for it."""


def accepts_events(headers: HTTPHeaders) -> bool:
    """Return whether a request may launch by its headers: an image, a preview or a crawler must not start servers.

    Programs such as curl and requests accept anything. A browser has to name event streams, as EventSource does: for
    the scripts and media of any page it sends `Accept: */*` too, without `Sec-Fetch-Site` to a service without https.
    """
    accept = headers.get("Accept", "").lower() or "*/*"
    if "text/event-stream" in accept:
        return True
    # Node's fetch sends Sec-Fetch-Mode, but only browsers send Sec-Fetch-Site
    is_browser = headers.get("User-Agent", "").startswith("Mozilla/") or "Sec-Fetch-Site" in headers
    return "*/*" in accept and not any(kind in accept for kind in ("text/html", "image/")) and not is_browser


class BuildStream(ApiHandler):
    """Event stream of one launch."""

    _follower: asyncio.Task[Any] | None = None
    _flushed: asyncio.Future[None] | None = None
    """Done once the connection has taken everything that was sent so far."""
    _keepalive: asyncio.TimerHandle | None = None
    _signed_in: SignedIn | None = None
    """Who sent the request, by cookie or token."""

    def set_default_headers(self) -> None:
        super().set_default_headers()
        self.set_header("Content-Type", "text/event-stream")
        self.set_header("X-Accel-Buffering", "no")  # else nginx would buffer the events

    async def prepare(self) -> None:
        """Set the CORS headers. Skip the checks of the base class: refusals are events of the stream."""
        trace.enter(self.request.headers.get(trace.HEADER, ""))
        self.share()
        if self.shared.signin is not None:
            self._signed_in = await self.shared.signin.of(self.request)

    def delete(self) -> None:
        """End the launch that `Last-Event-ID` names soon: its page is closed, or reloaded, and then resumes it."""
        self.shared.login.check(self.request)
        self.shared.launches.abandon(self.request.headers.get("Last-Event-ID", ""), self._link)
        self.set_status(HTTPStatus.NO_CONTENT)

    def check_xsrf_cookie(self) -> None:
        """Accept requests without Tornado's cookie: the event's id, which no other site knows, is the proof."""

    async def get(self) -> None:
        # else an event waits for the receipt of the one before it, which a receiver may delay by 40 ms (tcp(7))
        cast(HTTP1Connection, self.request.connection).stream.set_nodelay(True)
        with self.shared.limits.stream(self.network):
            self._follower = asyncio.current_task()
            try:
                await self._stream()
            except asyncio.CancelledError:
                if self._follower is not None:  # else the client has left
                    raise
            finally:
                self._follower = None

    def on_connection_close(self) -> None:
        """End this follower."""
        if self._follower is not None:
            self._follower.cancel()
            self._follower = None

    def write_error(self, status_code: int, **kwargs: object) -> None:
        """Answer with a `failed` event if a request fails before its stream starts."""
        self.share()
        self.set_status(200)
        self.finish(sse(failed(self.error_of(status_code, **kwargs))))

    async def _stream(self) -> None:
        self._keep_alive()
        try:
            if await self._send_events():
                await asyncio.sleep(self.shared.context.stream.linger_seconds)
        except StreamClosedError:
            return
        finally:
            if self._keepalive is not None:
                self._keepalive.cancel()

    async def _send_events(self) -> bool:
        """Send the events of the launch, those that are ready in one part; return whether the last one was sent.

        Otherwise the client is to connect again: this binder stops, or another connection took over.
        """
        ended = False
        async with aclosing(self._events()) as batches:
            async for events in batches:
                text = ""
                for id_, event in events:
                    text += sse(event, id_)
                    if len(text) >= _PART_CHARACTERS:
                        await self._send(text)
                        text = ""
                if text:
                    await self._send(text)
                ended = events[-1][1].ends
        return ended

    def _events(self) -> AsyncGenerator[list[tuple[str, Event]], None]:
        launches = self.shared.launches
        try:
            followed, position = self._resumed() or (self._started(), 0)
        except Exception as error:  # the waiting user must see every failure
            return _only(failed(to_user_error(error, self._request_summary())))
        return launches.follow(followed, position)

    @property
    def _link(self) -> str:
        """What a launch is resumed as: an event's id is valid for nothing else."""
        name = self._signed_in.person.name if self._signed_in else ""
        return f"{name}@{'/'.join(self.link('build/'))}{'?build_only=true' if self._build_only else ''}"

    @property
    def _build_only(self) -> bool:
        return self.get_query_argument("build_only", "").lower() == "true"

    def _resumed(self) -> tuple[Followed, int] | None:
        """Return the client's own launch and the last event that it has, if it names one that is known here.

        Raises a UserError for a client that may not follow launches.
        """
        self.shared.login.check(self.request)
        if not accepts_events(self.request.headers):
            raise NotAllowed("A launch is an event stream.", "Send the header Accept: text/event-stream.")
        found = self.shared.launches.find(self.request.headers.get("Last-Event-ID", ""), self._link)
        if found:  # it had its build token when it began, and takes nothing new
            self.shared.limits.check_launch(self.caller, proven=True, now=time.time())
        return found

    def _started(self) -> Followed:
        """Start the requested launch. Raises a UserError if a limit refuses it."""
        click = self._click()
        events = self._recorded(click, self.shared.context.launch(click))
        return self.shared.launches.start(self._link, self.network, events, self._request_summary())

    async def _recorded(self, click: Click, events: AsyncGenerator[Event, None]) -> AsyncGenerator[Event, None]:
        """Yield the events of a launch; write its launch event once READY has arrived."""
        proven = self._proven(click.provider, click.spec)  # now, because it expires
        async with aclosing(events):
            async for event in events:
                yield event
                if event.phase is Phase.READY and event.launch is not None:
                    self.shared.context.launch_log.write(self._launched(click, event.launch.repo.revision, proven))

    def _proven(self, provider: str, spec: str) -> bool:
        return self._person(provider, spec) is not None or self._has_token(provider, spec)

    def _launched(self, click: Click, revision: str, proven: bool) -> Launched:
        headers = self.request.headers
        asked_from = headers.get("Origin", headers.get("Sec-Fetch-Site", ""))
        return Launched(click.provider, click.spec, revision, proven, self.request.host, asked_from)

    def _click(self) -> Click:
        id_, spec = self.link("build/")
        provider_for(self.shared.context.providers, id_)
        person = self._person(id_, spec)
        proven = person is not None or self._has_token(id_, spec)
        self.shared.limits.check_launch(self.caller, proven, time.time())
        origin, context = f"{self.request.protocol}://{self.request.host}", self.shared.context
        hub_url, binder_url = f"{origin}{context.hub_url}", f"{origin}{context.base_url}"
        domain = self.session_domain
        click = Click(id_, spec, self.network, hub_url, binder_url, session_domain=domain, build_only=self._build_only)
        return click if person is None else replace(click, user=person.name, groups=person.groups)

    def _has_token(self, provider: str, spec: str, person: str = "") -> bool:
        token = self.get_query_argument("build_token", "")
        return self.shared.limits.build_tokens.verify(token, f"{provider}/{spec}", self.caller.page, person)

    def _person(self, provider: str, spec: str) -> Person | None:
        """Return who launches; None for an anonymous launch. Raises LoginNeeded if this binder has none.

        A browser sends the cookie also for a session's page, which is of the same site. So the cookie counts only with
        the build token of a page that this person opened, and that no other page can read.
        """
        signin, signed = self.shared.signin, self._signed_in
        if signed is not None and signed.csrf:
            own = self._has_token(provider, spec, signed.person.name)
            signed = signed if own and not self.caller.cross_site else None
        if signed is None and signin is not None and signin.is_required:
            raise LoginNeeded("This service needs a login.", "Open the launch link and sign in, or send a token.")
        return None if signed is None else signed.person

    def _keep_alive(self) -> None:
        seconds = self.shared.context.stream.keepalive_seconds
        self._keepalive = asyncio.get_running_loop().call_later(seconds, self._send_keepalive)

    def _send_keepalive(self) -> None:
        if self._flushed is None or self._flushed.done():  # else more is on its way to a slow client
            self.write(KEEPALIVE)
            self._flushed = self.flush()
        self._keep_alive()

    async def _send(self, text: str) -> None:
        """Send `text`; return once the connection has taken it. Raises StreamClosedError."""
        if self._flushed is not None:
            await self._flushed  # a second write would make Tornado forget who waits for the first one
        self.write(text)
        self._flushed = self.flush()
        await self._flushed


async def _only(event: Event) -> AsyncGenerator[list[tuple[str, Event]], None]:
    """Yield an event that nobody can resume after."""
    yield [("", event)]
