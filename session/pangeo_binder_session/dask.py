"""Connects notebooks and JupyterLab's Dask panel to the session's Dask cluster, of dask-gateway or of the operator.

`attach()` in a notebook returns the cluster. dask-labextension calls and awaits the function that its settings
`labextension.factory.module` and `.class` name: `attach` here. Needs dask-gateway or distributed; nothing imports it.
"""

import os


def attach(asynchronous=False, **kwargs):
    """Return the session's cluster; with dask-gateway, create a new one if it does not exist.

    With `asynchronous`, return an awaitable of the cluster.
    """
    if os.environ.get("DASK_SCHEDULER_ADDRESS"):
        from .scheduler import attach_to_scheduler

        return attach_to_scheduler(os.environ, asynchronous=asynchronous, **kwargs)
    if asynchronous:
        return _attach_to_gateway_async(asynchronous=True, **kwargs)
    return _attach_to_gateway(**kwargs)


def _attach_to_gateway(**kwargs):
    from dask_gateway import GatewayCluster, GatewayClusterError

    name = os.environ.get("DASK_GATEWAY_CLUSTER")
    if name:
        try:
            return GatewayCluster.from_name(name, **kwargs)
        except (GatewayClusterError, ValueError):  # it failed, or the gateway no longer has it
            pass
    return GatewayCluster(**kwargs)


async def _attach_to_gateway_async(**kwargs):
    from dask_gateway import GatewayCluster, GatewayClusterError

    name = os.environ.get("DASK_GATEWAY_CLUSTER")
    if name:
        try:
            return await GatewayCluster.from_name(name, **kwargs)
        except (GatewayClusterError, ValueError):
            pass
    return await GatewayCluster(**kwargs)
