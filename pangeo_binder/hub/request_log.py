"""The hub's log of requests, with the trace of each that carries one. Runs in the hub."""

from __future__ import annotations

from jupyterhub import log
from tornado.web import RequestHandler

from .. import trace


def log_request(handler: RequestHandler) -> None:
    """Log a finished request as JupyterHub does, as part of its trace."""
    if header := handler.request.headers.get(trace.HEADER):
        trace.enter(header)  # the request's task ends here, and its tasks for servers have begun
    log.log_request(handler)
