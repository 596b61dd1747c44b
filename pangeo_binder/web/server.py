"""The HTTP server in front of the handlers, with limits of size and time for whatever connects. Binder process."""

from __future__ import annotations

from typing import Final

from tornado.httpserver import HTTPServer
from tornado.web import Application

HEADER_BYTES: Final = 32 << 10
"""The maximum size of a request's first line and headers: browsers send all cookies of the host, also JupyterLab's."""
BODY_BYTES: Final = 64 << 10
"""The maximum size of a request's body. No handler reads one; Tornado's default is 100 MB."""
_BODY_SECONDS: Final = 30
_IDLE_SECONDS: Final = 120
"""How long a connection may take for the headers of a request; longer than proxies keep idle connections (90 s)."""


def make_server(application: Application) -> HTTPServer:
    """Return a server of `application`, which does not listen yet."""
    return HTTPServer(
        application,
        xheaders=True,
        max_header_size=HEADER_BYTES,
        max_body_size=BODY_BYTES,
        max_buffer_size=HEADER_BYTES + BODY_BYTES,
        body_timeout=_BODY_SECONDS,
        idle_connection_timeout=_IDLE_SECONDS,
    )
