"""Gives the Dask panel of JupyterLab the session's own cluster, instead of making another.

dask-labextension calls and awaits what `labextension.factory.module` and `.class` name; set them to this module and
`attach`. Needs dask-gateway, and is imported only by the panel.
"""

import os


async def attach(**kwargs):
    """Return the cluster the session was started with, or a new one where that is gone or there was none."""
    from dask_gateway import GatewayCluster

    kwargs["asynchronous"] = True
    name = os.environ.get("DASK_GATEWAY_CLUSTER")
    if name:
        try:
            return await GatewayCluster.from_name(name, **kwargs)
        except Exception as error:  # every dask-gateway has its own errors for a cluster that is gone
            if type(error).__module__.partition(".")[0] not in ("dask_gateway", "builtins"):
                raise
    return await GatewayCluster(**kwargs)
