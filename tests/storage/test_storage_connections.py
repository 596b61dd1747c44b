"""Test how many connections the storage process keeps open."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pangeo_binder.storage.app import serve
from tests.stack.sockets import sockets
from tests.storage.process import make_settings

OTHER, THIRD = "127.0.0.2", "127.0.0.3"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has all addresses of 127.0.0.0/8")
async def test_connections_are_limited_in_total_and_for_an_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pangeo_binder.connections.RESERVED", 0)
    runner = await serve(make_settings(tmp_path, connections=3, address_connections=2))
    try:
        async with sockets(runner.data_port) as connected:
            await connected.open(2)
            refused = await connected.refusal()
            assert refused.startswith(b"HTTP/1.1 503 ") and b"Too many connections" in refused
            await connected.open(1, OTHER)
            assert b" 403 " in await connected.ask("/"), "another address is served"
            assert await connected.refusal(THIRD) == refused
            await connected.close(1)
            await connected.accepted("/", THIRD)
            await connected.close(2)
            await connected.accepted("/")
    finally:
        await runner.cleanup()


async def test_silent_connections_are_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pangeo_binder.storage.app.IDLE_SECONDS", 0.1)
    monkeypatch.setattr("pangeo_binder.storage.app._ADMIN_CONNECTIONS", 1)
    runner = await serve(make_settings(tmp_path))
    try:
        for port in (runner.data_port, runner.admin_port):
            async with sockets(port) as connected:
                assert await connected.refusal() == b""
        async with sockets(runner.admin_port) as connected:
            await connected.accepted("/health")
            assert b" 503 " in await connected.refusal()
    finally:
        await runner.cleanup()
