"""Gives the Dask panel of JupyterLab the session's own cluster, instead of making another.

dask-labextension calls and awaits what `labextension.factory.module` and `.class` name; set them to this module and
`attach`. Needs dask-gateway, and is imported only by the panel.
"""

import os


async def attach(**kwargs):
    """Return the cluster the session was started with, or a new one where that is gone or there was none."""
    from dask_gateway import GatewayCluster, GatewayClusterError

    kwargs["asynchronous"] = True
    name = os.environ.get("DASK_GATEWAY_CLUSTER")
    if name:
        try:
            return await GatewayCluster.from_name(name, **kwargs)
        except (GatewayClusterError, ValueError):  # it failed, or was stopped and forgotten
            pass
    return await GatewayCluster(**kwargs)
