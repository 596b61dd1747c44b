"""Carries a message about a cluster to its user: why it failed, which workers it could not get.

dask-gateway's records have no field for it. The controller writes it into the cluster's status; this module adds it to
the API's answers, in the forms that dask-gateway's client shows. Runs in the API server.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web
from dask_gateway_server.models import Cluster, ClusterStatus

MESSAGE = "message"
"""The key of the message, in a cluster's status and in the answer to a request with `?message`."""


class LaunchCluster(Cluster):
    """A cluster with a message about it, which may be empty.

    `to_dict` does not contain the message: dask-gateway's client fails on an unknown key.
    """

    message = ""
    running_workers = 0


def launch_cluster(stock: Cluster, spec: dict[str, Any], status: dict[str, Any]) -> LaunchCluster:
    """Return dask-gateway's own record `stock` of a DaskCluster with `spec` and `status` as ours."""
    cluster = LaunchCluster.__new__(LaunchCluster)
    cluster.__dict__.update(stock.__dict__)
    cluster.message = str(status.get(MESSAGE, ""))
    cluster.running_workers = status.get("workers", 0)
    # a cluster that was shut down must not count, but its phase changes only after the controller has cleaned up
    if not spec.get("active", True) and cluster.status <= ClusterStatus.RUNNING:
        cluster.status = ClusterStatus.STOPPING
    return cluster


@web.middleware
async def add_message(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Add a cluster's message to a successful answer about it; a caller without access gets no such answer.

    dask-gateway's client raises GatewayClusterError with the text of a 409, and warns by GatewayWarning with the answer
    to a scaling request. `wait` marks the request of a client that waits for the cluster to start.
    """
    response = await handler(request)
    name = request.match_info.get("cluster_name")
    if name is None or response.status != 200 or not isinstance(response, web.Response) or not response.text:
        return response
    cluster = await request.app["backend"].get_cluster(name)
    message = getattr(cluster, MESSAGE, "")
    if request.method == "GET" and MESSAGE in request.query:
        return web.json_response({**json.loads(response.text), MESSAGE: message})
    if request.method == "GET" and "wait" in request.query and message and cluster.status == ClusterStatus.FAILED:
        return web.json_response({"error": message}, status=409)
    if request.method == "POST" and request.path.endswith(("/scale", "/adapt")) and message:
        stock = json.loads(response.text)["msg"]
        return web.json_response({"ok": False, "msg": f"{stock} {message}" if stock else message})
    return response
