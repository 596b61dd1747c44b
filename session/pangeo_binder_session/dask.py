"""Attaches to the session's own Dask cluster, for notebooks and for the Dask panel of JupyterLab, whoever made it.

`attach()` in a notebook returns the cluster. dask-labextension calls and awaits what `labextension.factory.module` and
`.class` name: this module and `attach`. Needs dask-gateway or distributed, and is imported by nothing else.
"""

import os


def attach(asynchronous=False, **kwargs):
    """Return the cluster the session was started with; with dask-gateway a new one where that is gone or was never.

    With `asynchronous` what is returned is to be awaited.
    """
    if os.environ.get("DASK_SCHEDULER_ADDRESS"):
        from .scheduler import attach_to_scheduler

        return attach_to_scheduler(os.environ, asynchronous=asynchronous, **kwargs)
    if asynchronous:
        return _await_gateway(asynchronous=True, **kwargs)
    return _ask_gateway(**kwargs)


def _ask_gateway(**kwargs):
    from dask_gateway import GatewayCluster, GatewayClusterError

    name = os.environ.get("DASK_GATEWAY_CLUSTER")
    if name:
        try:
            return GatewayCluster.from_name(name, **kwargs)
        except (GatewayClusterError, ValueError):  # it failed, or was stopped and forgotten
            pass
    return GatewayCluster(**kwargs)


async def _await_gateway(**kwargs):
    from dask_gateway import GatewayCluster, GatewayClusterError

    name = os.environ.get("DASK_GATEWAY_CLUSTER")
    if name:
        try:
            return await GatewayCluster.from_name(name, **kwargs)
        except (GatewayClusterError, ValueError):
            pass
    return await GatewayCluster(**kwargs)
