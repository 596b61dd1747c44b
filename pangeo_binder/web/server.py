"""The HTTP server in front of the handlers, with limits of size and time for whatever connects. Binder process."""

from __future__ import annotations

from typing import Any, Final

from tornado.http1connection import HTTP1ServerConnection
from tornado.httpserver import HTTPServer
from tornado.iostream import IOStream
from tornado.web import Application

from ..connections import IDLE_SECONDS, REFUSAL, Connections

HEADER_BYTES: Final = 32 << 10
"""The maximum size of a request's first line and headers: browsers send all cookies of the host, also JupyterLab's."""
BODY_BYTES: Final = 64 << 10
"""The maximum size of a request's body. No handler reads one; Tornado's default is 100 MB."""
_BODY_SECONDS: Final = 30
MAX_CONNECTIONS: Final = 2000
"""How many connections are open at a time: each page of a launch holds one. The limit for a network is `Limits`'."""


class _Server(HTTPServer):
    """HTTP server that refuses the newest connection above a limit."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.connections = Connections(MAX_CONNECTIONS)
        self._addresses: dict[IOStream, str] = {}

    def handle_stream(self, stream: IOStream, address: tuple[Any, ...]) -> None:
        """Serve a new connection, or refuse it."""
        peer = str(address[0]) if address else ""
        if self.connections.add(peer):
            self._addresses[stream] = peer
            super().handle_stream(stream, address)
        else:
            stream.write(REFUSAL)
            stream.close()

    def on_close(self, server_conn: object) -> None:
        """Forget a served connection."""
        super().on_close(server_conn)
        assert isinstance(server_conn, HTTP1ServerConnection)
        self.connections.remove(self._addresses.pop(server_conn.stream))


def make_server(application: Application, most_connections: int = MAX_CONNECTIONS) -> HTTPServer:
    """Return a server of `application`, which does not listen yet."""
    server = _Server(
        application,
        xheaders=True,
        max_header_size=HEADER_BYTES,
        max_body_size=BODY_BYTES,
        max_buffer_size=HEADER_BYTES + BODY_BYTES,
        body_timeout=_BODY_SECONDS,
        idle_connection_timeout=IDLE_SECONDS,
    )
    server.connections = Connections(most_connections)
    return server
