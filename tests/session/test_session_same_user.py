"""The user at the other end of a connection within this machine, as the kernel shows it."""

from __future__ import annotations

import importlib.util
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "session" / "pangeo_binder_session" / "same_user.py"
if not Path("/proc/net/tcp").exists():
    pytest.skip("LEFT OUT: only Linux names the users of sockets in a file", allow_module_level=True)
spec = importlib.util.spec_from_file_location("same_user", SOURCE)
assert spec is not None and spec.loader is not None
same_user = importlib.util.module_from_spec(spec)
spec.loader.exec_module(same_user)


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


def test_a_connection_of_ours_has_our_user(server: socket.socket) -> None:
    with socket.create_connection(server.getsockname()), server.accept()[0] as accepted:
        assert same_user.user_of_peer(accepted) == os.getuid()


def test_an_ipv4_connection_of_an_ipv6_socket_has_our_user(server: socket.socket) -> None:
    with socket.socket(socket.AF_INET6) as client:
        try:
            client.connect(("::ffff:127.0.0.1", server.getsockname()[1]))
        except OSError:
            pytest.skip("LEFT OUT: no IPv6 here")
        with server.accept()[0] as accepted:
            assert same_user.user_of_peer(accepted) == os.getuid()


def test_a_closed_connection_has_no_user(server: socket.socket) -> None:
    """The kernel shows closed sockets as root's, so they must not count as ours if we are root."""
    client = socket.create_connection(server.getsockname())
    with server.accept()[0] as accepted:
        client.close()
        assert same_user.user_of_peer(accepted) is None
    with socket.socket() as unconnected:
        assert same_user.user_of_peer(unconnected) is None
