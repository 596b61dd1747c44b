"""The local profile's proxy: routes that are added together are written together, and each works once it is added."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from jupyterhub_traefik_proxy.traefik_utils import TraefikConfigFileHandler
from tornado.web import Application

from pangeo_binder.deploy.local.values import free_port
from pangeo_binder.hub.local.proxy import WatchedTraefikProxy

pytestmark = pytest.mark.processes

MANY = 40


class CountingFile(TraefikConfigFileHandler):  # type: ignore[misc]
    """The file of the routes; counts how often it is written."""

    writes = 0
    full = False

    def atomic_dump(self, data: dict[str, Any]) -> None:
        if self.full:
            raise OSError("no space left on device")
        self.writes += 1
        super().atomic_dump(data)


@pytest.fixture
async def target() -> AsyncIterator[str]:
    """A server that answers with the path it was asked for."""

    async def path(request: web.Request) -> web.Response:
        return web.Response(text=request.path)

    app = web.Application()
    app.router.add_get("/{path:.*}", path)
    server = TestServer(app, host="127.0.0.1")
    await server.start_server()
    yield str(server.make_url(""))
    await server.close()


@pytest.fixture
async def proxy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> AsyncIterator[WatchedTraefikProxy]:
    """A real traefik without routes, whose log is captured."""
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    routes = tmp_path / "routes.toml"
    running = WatchedTraefikProxy(
        app=SimpleNamespace(tornado_application=Application([])),
        public_url=f"http://127.0.0.1:{free_port()}",
        traefik_api_url=f"http://127.0.0.1:{free_port()}",
        traefik_api_username="hub",
        traefik_log_level="DEBUG",
        traefik_api_password="the password of the proxy in these tests",
        static_config_file=str(tmp_path / "traefik.toml"),
        dynamic_config_file=str(routes),
    )
    running.dynamic_config_handler = CountingFile(str(routes))
    await running.start()
    yield running
    await running.stop()


async def answers(proxy: WatchedTraefikProxy, *paths: str) -> list[tuple[int, str]]:
    async def ask(path: str) -> tuple[int, str]:
        async with http.get(f"{proxy.public_url.rstrip('/')}{path}") as response:
            return response.status, await response.text()

    async with aiohttp.ClientSession() as http:
        return list(await asyncio.gather(*(ask(path) for path in paths)))


async def test_routes_that_are_added_together_are_written_together(proxy: WatchedTraefikProxy, target: str) -> None:
    paths = [f"/user/sea-{number}/" for number in range(MANY)]
    before = proxy.dynamic_config_handler.writes
    await asyncio.gather(*(proxy.add_route(path, target, {}) for path in paths))
    assert await answers(proxy, *paths) == [(200, path) for path in paths]
    assert proxy.dynamic_config_handler.writes - before == 1
    await asyncio.gather(*(proxy.delete_route(path) for path in paths[1:]))
    await proxy.add_route("/last/", target, {})
    assert {status for status, _ in await answers(proxy, *paths[1:])} == {404}
    assert await answers(proxy, paths[0], "/last/") == [(200, paths[0]), (200, "/last/")]
    assert proxy.dynamic_config_handler.writes - before == 2


async def test_no_key_is_made_for_a_route(
    proxy: WatchedTraefikProxy, target: str, capfd: pytest.CaptureFixture[str]
) -> None:
    await proxy.add_route("/user/sea/", target, {})
    log = capfd.readouterr().out
    assert "Configuration received" in log
    assert "default certificate" not in log and "Version check is enabled" not in log


async def test_a_launch_that_leaves_takes_no_other_launchs_route(proxy: WatchedTraefikProxy, target: str) -> None:
    leaving = asyncio.create_task(proxy.add_route("/user/leaving/", target, {}))
    staying = asyncio.create_task(proxy.add_route("/user/staying/", target, {}))
    await asyncio.sleep(0)
    leaving.cancel()
    await staying
    assert await answers(proxy, "/user/staying/") == [(200, "/user/staying/")]


async def test_a_route_that_is_deleted_at_once_holds_up_no_other(proxy: WatchedTraefikProxy, target: str) -> None:
    proxy.check_route_timeout = 5
    short = asyncio.create_task(proxy.add_route("/user/short/", target, {}))
    await asyncio.sleep(0)
    await proxy.delete_route("/user/short/")
    await short
    kept = asyncio.create_task(proxy.add_route("/user/kept/", target, {}))
    short = asyncio.create_task(proxy.add_route("/user/short/", target, {}))
    await asyncio.sleep(0)
    await asyncio.gather(proxy.delete_route("/user/short/"), kept, short)
    assert await answers(proxy, "/user/kept/", "/user/short/") == [(200, "/user/kept/"), (404, "404 page not found\n")]


async def test_a_route_that_cannot_be_written_is_an_error(proxy: WatchedTraefikProxy, target: str) -> None:
    proxy.dynamic_config_handler.full = True
    with pytest.raises(OSError, match="no space left"):
        await proxy.add_route("/user/sea/", target, {})
    proxy.dynamic_config_handler.full = False
    await proxy.add_route("/user/air/", target, {})
    assert await answers(proxy, "/user/air/") == [(200, "/user/air/")]
