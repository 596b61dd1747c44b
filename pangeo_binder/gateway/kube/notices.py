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
"""The key of the sentence, in a cluster's status and in the answer to who asks for it (`?message`)."""


class LaunchCluster(Cluster):
    """A cluster with a sentence about it, which may be empty.

    The sentence is no part of the stock record (`to_dict`): dask-gateway's client fails on a key it does not know.
    """

    message = ""
    running_workers = 0


def launch_cluster(stock: Cluster, spec: dict[str, Any], status: dict[str, Any]) -> LaunchCluster:
    """Return the stock record `stock` of a DaskCluster with `spec` and `status` as ours."""
    cluster = LaunchCluster.__new__(LaunchCluster)
    cluster.__dict__.update(stock.__dict__)
    cluster.message = str(status.get(MESSAGE, ""))
    cluster.running_workers = status.get("workers", 0)
    # the phase changes only when the controller has cleaned up; a cluster that was shut down counts no more before
    if not spec.get("active", True) and cluster.status <= ClusterStatus.RUNNING:
        cluster.status = ClusterStatus.STOPPING
    return cluster


@web.middleware
async def tell(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Add a cluster's message to what was answered about it; never to a refusal, nor for who may not see the cluster.

    dask-gateway's client raises GatewayClusterError with the text of a 409, and warns with a GatewayWarning of what
    scaling answers. `wait` marks the question of a client that waits for the cluster to start.
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
        said = json.loads(response.text)["msg"]
        return web.json_response({"ok": False, "msg": f"{said} {message}" if said else message})
    return response
