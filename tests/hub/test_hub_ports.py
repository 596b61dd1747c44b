"""Servers' ports are free, and another process's port is never taken for a server's own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

from pangeo_binder.local.ports import listens, server_port

_LISTEN = (
    "import socket, sys; s = socket.create_server(('127.0.0.1', int(sys.argv[1]))); print('up', flush=True); input()"
)


def test_a_port_is_free_and_no_outgoing_connection_gets_it() -> None:
    with socket.socket() as given:
        given.bind(("127.0.0.1", 0))
        ports = {server_port("127.0.0.1") for _ in range(20)}
        assert max(ports) < given.getsockname()[1] and len(ports) > 1


def test_a_servers_port_is_its_own_or_its_childs() -> None:
    port = server_port("127.0.0.1")
    command = ["sh", "-c", '"$@"; true', "sh", sys.executable, "-c", _LISTEN, str(port)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as wrapped:
        assert wrapped.stdout is not None and wrapped.stdout.readline() == b"up\n"
        assert listens(wrapped.pid, port) and listens(os.getpid(), port)
        wrapped.communicate(b"\n")
    assert not listens(wrapped.pid, port)


def test_another_processs_port_is_not_a_servers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as elsewhere, subprocess.Popen(["sleep", "30"]) as server:
        assert not listens(server.pid, elsewhere.getsockname()[1])
        server.kill()
