"""Authenticates requests to dask-gateway as launches: only a server's own token may have clusters.

The token's scope `access:servers!server=<user>/<server>` names the launch. The gateway reads the launch's grant from
that server's state at the hub, with its own token, and trusts nothing else the client sends. Runs in the gateway.
"""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any
from urllib.parse import quote

from aiohttp import web
from dask_gateway_server.auth import JupyterHubAuthenticator, unauthorized
from dask_gateway_server.models import User
from traitlets import default

from .. import trace
from ..answers import read_object
from ..model import Launch, launch_of

_SERVER_SCOPE = "access:servers!server="
_SERVICE = "service:"


def _ends_at(server: dict[str, Any], launch: Launch) -> float:
    """Return when the hub's `server` model reaches its maximum age; a server without a start time starts now.

    Seconds since the epoch.
    """
    started = server.get("started")
    since = datetime.fromisoformat(started).timestamp() if started else time.time()
    return since + launch.grant.server.max_age_seconds


class LaunchUser(User):
    """A launch as dask-gateway's user.

    Its name is `user/server`: dask-gateway's lists, permissions and cache use the name, so all are per launch.
    """

    def __init__(
        self, name: str, launch: Launch | None = None, ends_at: float = math.inf, *, is_starting: bool = False
    ) -> None:
        super().__init__(name)
        self.launch = launch
        self.is_starting = is_starting
        """Whether its server starts now, so that the hub sent the request and not the session."""
        self.ends_at = ends_at
        """When its server reaches its maximum age, in seconds since the epoch."""

    @property
    def may_end(self) -> bool:
        """Whether this is the hub, as its service `launches`, which may end the clusters of any launch."""
        return self.name == f"{_SERVICE}launches"

    @property
    def may_look(self) -> bool:
        """Whether this is the command `status`, which may list all clusters."""
        return self.name == f"{_SERVICE}status"


@web.middleware
async def check_authorization(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Refuse a header Authorization of one word, on which dask-gateway's own handlers for schedulers fail with 500."""
    kind, _, token = request.headers.get("Authorization", "").partition(" ")
    if kind and not token:
        raise unauthorized("jupyterhub")
    return await handler(request)


class LaunchAuthenticator(JupyterHubAuthenticator):
    """Authenticator of launches by their servers' hub tokens, and of the hub by its service's token."""

    @default("cache_max_age")
    def _no_cache(self) -> int:
        """Return 0: the stock cache would keep a former launch's grant and a revoked token valid for five minutes."""
        return 0

    def get_token(self, request: web.Request) -> str | None:
        """Return the hub token of `request`, or None. The stock method fails on a header of one word."""
        kind, _, token = request.headers.get("Authorization", "").partition(" ")
        return token if kind == "jupyterhub" and token else None

    async def authenticate(self, request: web.Request) -> LaunchUser:
        """Return the launch that sent `request`; 401 for any other token, 403 if its tier has no Dask."""
        token = self.get_token(request)
        if token is None:
            raise unauthorized("jupyterhub")
        me = await self._hub("/user", token)
        scopes = set(me.get("scopes", ()))
        if f"access:services!service={self.jupyterhub_service_name}" not in scopes:
            raise unauthorized("jupyterhub")
        if me["kind"] == "service":
            return LaunchUser(f"{_SERVICE}{me['name']}")
        return await self._launch_user(me["name"], scopes)

    async def _launch_user(self, user: str, scopes: set[str]) -> LaunchUser:
        servers = [scope.removeprefix(_SERVER_SCOPE) for scope in scopes if scope.startswith(_SERVER_SCOPE)]
        if len(servers) != 1 or not servers[0].startswith(f"{user}/"):
            raise unauthorized("jupyterhub")
        server = servers[0].removeprefix(f"{user}/")
        model = await self._hub(f"/users/{quote(user, safe='')}/servers/{quote(server, safe='')}")
        launch = launch_of(model)
        if launch is None:
            raise unauthorized("jupyterhub")
        trace.enter_launch(launch.id)
        if launch.grant.dask is None:
            raise web.HTTPForbidden(reason=f"The tier '{launch.grant.tier}' of this launch has no Dask clusters.")
        return LaunchUser(servers[0], launch, _ends_at(model, launch), is_starting=not model.get("ready"))

    async def _hub(self, path: str, token: str | None = None) -> dict[str, Any]:
        """Return the hub's answer to GET `path`; 401 for a token the hub does not know, 502 for any other failure."""
        headers = {"Authorization": f"token {token or self.jupyterhub_api_token}"}
        async with self.session.get(self.jupyterhub_api_url + path, headers=headers, ssl=self.ssl_context) as response:
            if response.status == 200:
                return await read_object(response)
            if response.status in (401, 403, 404):
                raise unauthorized("jupyterhub")
            raise web.HTTPBadGateway(reason="JupyterHub did not answer; try again in a minute.")
