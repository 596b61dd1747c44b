"""The chart's proxy where each session has a host name of its own: any other name leads to the binder.

JupyterHub refuses a route for all hosts in `Proxy.extra_routes`. Without one, the proxy sends every name below the
service's to the hub, so the hub's pages would have a session's origin. The binder refuses what is not for it. Not for
sessions at the binder's own host. Runs in the hub.
"""

from __future__ import annotations

from typing import Any

from jupyterhub.proxy import ConfigurableHTTPProxy
from traitlets import validate


class HostRoutingProxy(ConfigurableHTTPProxy):
    """The proxy with a route for all hosts, `/`."""

    async def delete_user(self, user: Any, server_name: str = "") -> None:
        """Remove a server's route. The stock method would not know that a person's servers have hosts of their own."""
        await self.delete_route(user.spawners[server_name].proxy_spec)

    @validate("extra_routes")
    def _validate_extra_routes(self, proposal: Any) -> dict[str, str]:
        return dict(proposal.value)
