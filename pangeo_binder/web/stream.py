"""The event stream of a launch: `/build/<provider>/<spec>`, for browsers and every BinderHub client.

Whatever happens is told inside the stream, since an EventSource cannot read a refusal's status. A client that leaves
ends its own follower and nothing else. Binder process.
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
from .failure import told
from .handler import BaseHandler


class BuildStream(BaseHandler):
    """Streams one launch's events."""

    _follower: asyncio.Task[None] | None = None

    def set_default_headers(self) -> None:
        super().set_default_headers()
        self.set_header("Content-Type", "text/event-stream")
        self.set_header("X-Accel-Buffering", "no")  # nginx would hold events back otherwise

    def prepare(self) -> None:
        """Refuse nothing yet: refusals are events of the stream."""
        if self.site.gate.allows_origin(self.caller.origin):
            self.set_header("Access-Control-Allow-Origin", self.caller.origin)
            self.set_header("Access-Control-Allow-Headers", "accept, cache-control")
            self.set_header("Vary", "Origin")

    def options(self) -> None:
        """Answer a browser that asks whether another site's page may launch here."""
        self.set_status(204)

    async def get(self) -> None:
        self._follower = asyncio.create_task(self._stream())
        await asyncio.wait({self._follower})
        if not self._follower.cancelled():
            self._follower.result()

    def on_connection_close(self) -> None:
        """End this follower: cancelling it closes the pipeline's generator."""
        if self._follower is not None:
            self._follower.cancel()

    def write_error(self, status_code: int, **kwargs: object) -> None:
        """Tell of a request that never came to be a stream, still as an event."""
        self.set_status(200)
        self.finish(sse(failed(self.error_of(status_code, **kwargs))))

    async def _stream(self) -> None:
        keepalive = asyncio.create_task(self._keep_alive())
        try:
            async with aclosing(self._events()) as events:
                async for event in events:
                    await self._send(sse(event))
            await asyncio.sleep(self.site.context.stream.linger_seconds)
        except StreamClosedError:
            return
        finally:
            keepalive.cancel()

    async def _events(self) -> AsyncGenerator[Event, None]:
        try:
            async with aclosing(self.site.context.launch(self._click())) as events:
                async for event in events:
                    yield event
                    if event.ends:
                        return
            raise RuntimeError("the launch ended without saying how")
        except Exception as error:  # whatever it is, the person waiting must be told
            yield failed(told(error, self._request_summary()))

    def _click(self) -> Click:
        """Return what is asked for. Raises a UserError where it is refused at the door."""
        if "text/event-stream" not in self.request.headers.get("Accept", ""):
            # an image, a link preview or a crawler must not start servers
            raise NotAllowed("A launch is an event stream.", "Ask with the header Accept: text/event-stream.")
        if self.get_query_argument("build_only", "").lower() == "true":
            raise NotAllowed("This service does not build without launching.", "Leave build_only out.")
        id_, _, spec = self.after("build/").rstrip("/").partition("/")
        provider_for(self.site.context.providers, id_)
        proven = self.site.gate.holds(self.get_query_argument("build_token", ""), id_, spec)
        self.site.gate.check_launch(self.caller, proven, time.time())
        hub_url = f"{self.request.protocol}://{self.request.host}{self.site.context.hub_url}"
        return Click(id_, spec, self.network, hub_url)

    async def _keep_alive(self) -> None:
        while True:
            await asyncio.sleep(self.site.context.stream.keepalive_seconds)
            try:
                await self._send(KEEPALIVE)
            except StreamClosedError:
                return

    async def _send(self, text: str) -> None:
        self.write(text)
        await self.flush()
