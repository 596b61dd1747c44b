"""Carries a sentence about a cluster to the person who asks for it: why it failed, which workers it could not get.

dask-gateway's records have no place for one. The controller writes it into the cluster's status; here it reaches the
API's answers, in the forms that dask-gateway's client shows. Runs in the API server.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web
from dask_gateway_server.models import Cluster, ClusterStatus

MESSAGE = "message"
"""The key of the sentence, in a cluster's status and in the API's answers."""


class LaunchCluster(Cluster):
    """A cluster with a sentence about it, which may be empty."""

    message = ""
    wanted_workers = 0
    running_workers = 0

    def to_dict(self, full: bool = True) -> dict[str, Any]:
        """Return the stock record, with `message` where there is one."""
        record: dict[str, Any] = super().to_dict(full)
        return {**record, MESSAGE: self.message} if self.message else record


def launch_cluster(stock: Cluster, spec: dict[str, Any], status: dict[str, Any]) -> LaunchCluster:
    """Return the stock record `stock` of a DaskCluster with `spec` and `status` as ours."""
    cluster = LaunchCluster.__new__(LaunchCluster)
    cluster.__dict__.update(stock.__dict__)
    cluster.message = str(status.get(MESSAGE, ""))
    cluster.wanted_workers = spec.get("replicas", 0)
    cluster.running_workers = status.get("workers", 0)
    # the phase changes only when the controller has cleaned up; a cluster that was shut down counts no more before
    if not spec.get("active", True) and cluster.status <= ClusterStatus.RUNNING:
        cluster.status = ClusterStatus.STOPPING
    return cluster


@web.middleware
async def tell(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Add a cluster's message to what was answered about it; never to a refusal.

    dask-gateway's client raises GatewayClusterError with the text of a 409, and warns with a GatewayWarning of what
    scaling answers. `wait` marks the question of a client that waits for the cluster to start.
    """
    response = await handler(request)
    name = request.match_info.get("cluster_name")
    if name is None or response.status != 200 or not isinstance(response, web.Response) or not response.body:
        return response
    if request.method == "GET" and "wait" in request.query:
        return _failed(response)
    if request.method == "POST" and request.path.endswith(("/scale", "/adapt")):
        cluster = await request.app["backend"].get_cluster(name)
        return _scaled(response, getattr(cluster, MESSAGE, ""))
    return response


def _failed(response: web.Response) -> web.Response:
    record = json.loads(response.text or "{}")
    if record.get("status") == ClusterStatus.FAILED.name and record.get(MESSAGE):
        return web.json_response({"error": record[MESSAGE]}, status=409)
    return response


def _scaled(response: web.Response, message: str) -> web.Response:
    answer = json.loads(response.text or "{}")
    if not message:
        return response
    said = f"{answer['msg']} {message}" if answer.get("msg") else message
    return web.json_response({"ok": False, "msg": said})
