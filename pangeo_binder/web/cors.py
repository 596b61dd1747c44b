"""CORS: which answers the pages of other origins may read. The base class of the endpoints for programs.

Pages are not among them: only a user's own browser window is to read a launch page, which has a build token.
Protocol: https://fetch.spec.whatwg.org/#http-cors-protocol. Binder process.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from .handler import BaseHandler

_CLIENT_HEADERS: Final = "accept, authorization, cache-control, last-event-id, x-xsrftoken"
"""What EventSource and `@jupyterhub/binderhub-client` send, and a browser asks for in a preflight request. The client
adds `last-event-id` when it reconnects."""


class ApiHandler(BaseHandler):
    """Handler whose answers pages of the allowed origins may read, errors too."""

    async def prepare(self) -> None:
        self.share()
        if self.request.method != "OPTIONS":  # browsers send preflight requests without the token
            await super().prepare()

    def share(self) -> None:
        """Let the requesting page read the answer if its origin is allowed."""
        self.set_header("Vary", "Origin")
        if self.shared.limits.allows_origin(self.caller.origin):
            self.set_header("Access-Control-Allow-Origin", self.caller.origin)
            self.set_header("Access-Control-Allow-Headers", _CLIENT_HEADERS)

    def options(self) -> None:
        """Answer a browser's preflight request."""
        self.set_status(HTTPStatus.NO_CONTENT)

    def write_error(self, status_code: int, **kwargs: object) -> None:
        self.share()  # Tornado has removed all headers
        super().write_error(status_code, **kwargs)
