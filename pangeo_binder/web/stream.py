"""The event stream of a launch: `/build/<provider>/<spec>`, for browsers and every BinderHub client.

Errors are events of the stream, because an EventSource cannot read the status of a response. A client that disconnects
ends only its own follower. Binder process.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing

from tornado.iostream import StreamClosedError

from ..errors import NotAllowed
from ..events import KEEPALIVE, Event, failed, sse
from ..model import Click
from ..repos.registry import provider_for
from .failure import to_user_error
from .handler import BaseHandler


class BuildStream(BaseHandler):
    """Event stream of one launch."""

    _follower: asyncio.Task[None] | None = None

    def set_default_headers(self) -> None:
        super().set_default_headers()
        self.set_header("Content-Type", "text/event-stream")
        self.set_header("X-Accel-Buffering", "no")  # else nginx would buffer the events

    def prepare(self) -> None:
        """Set the CORS headers. Skip the checks of the base class: refusals are events of the stream."""
        if self.shared.limits.allows_origin(self.caller.origin):
            self.set_header("Access-Control-Allow-Origin", self.caller.origin)
            self.set_header("Access-Control-Allow-Headers", "accept, cache-control")
            self.set_header("Vary", "Origin")

    def options(self) -> None:
        """Answer a browser's CORS preflight request."""
        self.set_status(204)

    async def get(self) -> None:
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
        if "text/event-stream" not in self.request.headers.get("Accept", ""):
            # an image, a link preview or a crawler must not start servers
            raise NotAllowed("A launch is an event stream.", "Send the header Accept: text/event-stream.")
        if self.get_query_argument("build_only", "").lower() == "true":
            raise NotAllowed("This service does not build without launching.", "Remove build_only from the link.")
        id_, spec = self.link("build/")
        provider_for(self.shared.context.providers, id_)
        proven = self.shared.limits.verify(self.get_query_argument("build_token", ""), id_, spec)
        self.shared.limits.check_launch(self.caller, proven, time.time())
        origin, context = f"{self.request.protocol}://{self.request.host}", self.shared.context
        hub_url, binder_url = f"{origin}{context.hub_url}", f"{origin}{context.base_url}"
        return Click(id_, spec, self.network, hub_url, binder_url, session_domain=self.session_domain)

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
