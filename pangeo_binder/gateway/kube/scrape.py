"""The page that Prometheus scrapes; both processes of the gateway on Kubernetes serve it, not publicly."""

from __future__ import annotations

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest


async def _metrics(request: web.Request) -> web.Response:
    return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})


def add_metrics(app: web.Application) -> None:
    """Serve `/metrics`. The public proxy routes only `/api` of the API server, and nothing to the controller."""
    app.router.add_get("/metrics", _metrics)
