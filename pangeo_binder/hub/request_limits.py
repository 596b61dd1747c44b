"""Bounds the requests that JupyterHub reads: by default it takes bodies of 100 MB, and parses JSON on its event loop.

Sessions may post their activity, so launched code may send such bodies. Runs in the hub.
"""

from __future__ import annotations

from tornado.httpserver import HTTPServer

from ..connections import IDLE_SECONDS
from ..policy.counters import PART_BYTES

BODY_BYTES = PART_BYTES + (64 << 10)
"""The maximum size of a body: somewhat more than of a binder's report, so that a larger report gets a sentence."""
_BODY_SECONDS = 30


def limit_requests() -> None:
    """Set the limits of this process's HTTP server, for which JupyterHub has no configuration."""
    HTTPServer.configure(
        None, max_body_size=BODY_BYTES, body_timeout=_BODY_SECONDS, idle_connection_timeout=IDLE_SECONDS
    )
