"""The event stream of a launch: `/build/<provider>/<spec>`, for browsers and every BinderHub client.

Errors are events of the stream, because an EventSource cannot read the status of a response. A client that disconnects
ends only its own follower. Binder process.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import cast

from tornado.http1connection import HTTP1Connection
from tornado.httputil import HTTPHeaders
from tornado.iostream import StreamClosedError

from ..errors import NotAllowed
from ..events import KEEPALIVE, Event, failed, sse
from ..model import Click
from ..repos.registry import provider_for
from .cors import ApiHandler
from .failure import to_user_error


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

    _follower: asyncio.Task[None] | None = None

    def set_default_headers(self) -> None:
        super().set_default_headers()
        self.set_header("Content-Type", "text/event-stream")
        self.set_header("X-Accel-Buffering", "no")  # else nginx would buffer the events

    def prepare(self) -> None:
        """Set the CORS headers. Skip the checks of the base class: refusals are events of the stream."""
        self.share()

    async def get(self) -> None:
        # else an event waits for the receipt of the one before it, which a receiver may delay by 40 ms (tcp(7))
        cast(HTTP1Connection, self.request.connection).stream.set_nodelay(True)
        with self.shared.limits.stream(self.network):
            self._follower = asyncio.create_task(self._stream())
            await asyncio.wait({self._follower})
        if not self._follower.cancelled():
            self._follower.result()

    def on_connection_close(self) -> None:
        """End this follower: its cancellation closes the pipeline's generator."""
        if self._follower is not None:
            self._follower.cancel()

    def write_error(self, status_code: int, **kwargs: object) -> None:
        """Answer with a `failed` event if a request fails before its stream starts."""
        self.share()
        self.set_status(200)
        self.finish(sse(failed(self.error_of(status_code, **kwargs))))

    async def _stream(self) -> None:
        keepalive = asyncio.create_task(self._keep_alive())
        try:
            async with aclosing(self._events()) as events:
                async for event in events:
                    await self._send(sse(event))
                    # a follower that joins late sends thousands of events, and `flush` does not wait between them
                    await asyncio.sleep(0)
            await asyncio.sleep(self.shared.context.stream.linger_seconds)
        except StreamClosedError:
            return
        finally:
            keepalive.cancel()

    async def _events(self) -> AsyncGenerator[Event, None]:
        try:
            async with aclosing(self.shared.context.launch(self._click())) as events:
                async for event in events:
                    yield event
                    if event.ends:
                        return
            raise RuntimeError("the launch ended without a final event")
        except Exception as error:  # the waiting user must see every failure
            yield failed(to_user_error(error, self._request_summary()))

    def _click(self) -> Click:
        """Return the requested launch. Raises a UserError if a limit refuses it."""
        self.shared.login.check(self.request)
        if not accepts_events(self.request.headers):
            raise NotAllowed("A launch is an event stream.", "Send the header Accept: text/event-stream.")
        id_, spec = self.link("build/")
        provider_for(self.shared.context.providers, id_)
        token = self.get_query_argument("build_token", "")
        proven = self.shared.limits.build_tokens.verify(token, f"{id_}/{spec}", self.caller.page)
        self.shared.limits.check_launch(self.caller, proven, time.time())
        origin, context = f"{self.request.protocol}://{self.request.host}", self.shared.context
        hub_url, binder_url = f"{origin}{context.hub_url}", f"{origin}{context.base_url}"
        build_only = self.get_query_argument("build_only", "").lower() == "true"
        domain = self.session_domain
        return Click(id_, spec, self.network, hub_url, binder_url, session_domain=domain, build_only=build_only)

    async def _keep_alive(self) -> None:
        while True:
            await asyncio.sleep(self.shared.context.stream.keepalive_seconds)
            try:
                await self._send(KEEPALIVE)
            except StreamClosedError:
                return

    async def _send(self, text: str) -> None:
        self.write(text)
        await self.flush()
