"""dask-gateway's API server with a limit of open connections. Its entry point in the local profile.

Everything else that differs from the stock server is configured: backend, authenticator and options. Runs in the
gateway.
"""

from __future__ import annotations

from dask_gateway_server.app import DaskGateway
from traitlets import Int

from ..connections import Connections, limit_connections
from ..logs import application_logging


class LaunchGateway(DaskGateway):
    """The API server."""

    logging_config = application_logging("gateway", base=DaskGateway.logging_config)

    # sessions' requests come through the proxy and have its address, so there is no limit for an address
    max_connections = Int(2000, help="How many connections are open at a time.", config=True)

    async def setup(self) -> None:
        """Start the server."""
        await super().setup()
        limit_connections(self.runner.server, Connections(self.max_connections))


if __name__ == "__main__":
    LaunchGateway.launch_instance()
