"""Test how many connections dask-gateway's API server keeps open."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from traitlets.config import Config

from pangeo_binder.connections import IDLE_SECONDS
from pangeo_binder.deploy.local.values import free_port
from pangeo_binder.gateway.auth import LaunchAuthenticator
from pangeo_binder.gateway.local import LocalLaunchBackend
from pangeo_binder.gateway.server import LaunchGateway
from tests.stack.sockets import sockets


@pytest.fixture
async def gateway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[LaunchGateway]:
    """A server that keeps two connections."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", "a token")
    c = Config()
    c.DaskGateway.backend_class, c.DaskGateway.authenticator_class = LocalLaunchBackend, LaunchAuthenticator
    c.DaskGateway.address = f"127.0.0.1:{free_port()}"
    c.LaunchGateway.max_connections = 2
    c.Proxy.externally_managed, c.Proxy.api_token = True, "a" * 32
    c.LaunchAuthenticator.jupyterhub_api_url = "http://127.0.0.1:1"
    running = LaunchGateway(config=c)
    running.initialize([])
    await running.setup()
    yield running
    await running.cleanup()


async def test_the_newest_connection_above_the_limit_is_refused(gateway: LaunchGateway) -> None:
    async with sockets(int(gateway.address.rpartition(":")[2])) as connected:
        await connected.open(2)
        refused = await connected.refusal()
        assert refused.startswith(b"HTTP/1.1 503 ") and b"Too many connections" in refused
        assert b" 200 " in await connected.ask("/api/health", 0), "the others are served"
        assert {each.keepalive_timeout for each in gateway.runner.server.connections} == {IDLE_SECONDS}
        await connected.close(1)
        await connected.accepted("/api/health")
