"""Both ports serve only the names a deployment gave them, so that no page of another site reaches them by its name."""

from __future__ import annotations

from collections.abc import AsyncIterator
from http.client import HTTPConnection
from pathlib import Path

import pytest

from pangeo_binder.deploy.local.storage import settings as local_settings
from pangeo_binder.deploy.local.values import LocalValues, Secrets, choose_ports, free_port, write_values
from pangeo_binder.storage.app import StorageRunner, serve
from tests.storage.process import ADMIN_TOKEN, in_thread, make_settings


@pytest.fixture(params=[("127.0.0.1", "localhost", "::1")])
async def named(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[StorageRunner]:
    runner = await serve(make_settings(tmp_path / "state", hosts=request.param))
    try:
        yield runner
    finally:
        await runner.cleanup()


def status(port: int, path: str, host: str | None) -> int:
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.putrequest("GET", path, skip_host=True)
        if host is not None:
            connection.putheader("Host", host)
        connection.putheader("Authorization", f"Bearer {ADMIN_TOKEN}")
        connection.endheaders()
        return connection.getresponse().status
    finally:
        connection.close()


FOREIGN = ["evil.example", "evil.example:9100", "127.0.0.1.evil.example", "localhost@evil", "", "[::2]:80", "127.0.0.2"]
OWN = ["127.0.0.1", "127.0.0.1:9100", "localhost:1", "LOCALHOST", "[::1]:9100", "[::1]"]


@pytest.mark.parametrize("host", FOREIGN)
async def test_a_foreign_name_is_refused_on_both_ports(named: StorageRunner, host: str) -> None:
    for path in ("/launches", "/health", "/metrics"):
        assert await in_thread(lambda path=path: status(named.admin_port, path, host)) == 421
    assert await in_thread(lambda: status(named.data_port, "/scratch", host)) == 421


@pytest.mark.parametrize("host", OWN)
async def test_an_own_name_is_served_with_any_port(named: StorageRunner, host: str) -> None:
    assert await in_thread(lambda: status(named.admin_port, "/launches", host)) == 200
    assert await in_thread(lambda: status(named.data_port, "/scratch", host)) == 403  # not signed


@pytest.mark.parametrize("named", [()], indirect=True)
async def test_without_names_every_name_is_served(named: StorageRunner) -> None:
    assert await in_thread(lambda: status(named.admin_port, "/health", "storage.binder.svc")) == 200
    assert await in_thread(lambda: status(named.data_port, "/scratch", "10.0.0.1:9100")) == 403


async def test_the_local_profile_serves_only_loopback_names(tmp_path: Path) -> None:
    write_values(LocalValues(tmp_path / "state", choose_ports(free_port()), Secrets()))
    settings = local_settings(str(tmp_path / "state"))
    assert settings.data_host == settings.admin_host == "127.0.0.1"
    runner = await serve(settings)
    try:
        for port in (runner.data_port, runner.admin_port):
            assert await in_thread(lambda port=port: status(port, "/health", "evil.example")) == 421
            assert await in_thread(lambda port=port: status(port, "/health", f"127.0.0.1:{port}")) != 421
    finally:
        await runner.cleanup()
