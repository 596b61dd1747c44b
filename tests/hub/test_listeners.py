"""Another process's port is never taken for a server's own, and finding out costs one question to the kernel."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import psutil
import pytest

from pangeo_binder.local import listeners as module
from pangeo_binder.local.listeners import find_listener, listens
from pangeo_binder.local.ports import reserved_port, server_port

_LISTEN = (
    "import socket, sys; s = socket.create_server(('127.0.0.1', int(sys.argv[1]))); print('up', flush=True); input()"
)
linux = pytest.mark.skipif(sys.platform != "linux", reason="LEFT OUT: only Linux answers which socket listens")


@pytest.fixture(params=["the kernel answers", "it does not"])
def ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways to find out; elsewhere than on Linux they are one."""
    if request.param == "it does not":
        monkeypatch.setattr(module, "_NETLINK_SOCK_DIAG", 31)  # a family that no kernel has


@pytest.mark.usefixtures("ways")
def test_a_servers_port_is_its_own_or_its_childs() -> None:
    port = server_port("127.0.0.1")
    command = ["sh", "-c", '"$@"; true', "sh", sys.executable, "-c", _LISTEN, str(port)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as wrapped:
        assert wrapped.stdout is not None and wrapped.stdout.readline() == b"up\n"
        assert listens(wrapped.pid, port) and listens(os.getpid(), port)
        wrapped.communicate(b"\n")
    assert not listens(wrapped.pid, port)


@pytest.mark.usefixtures("ways")
def test_another_processs_port_is_not_a_servers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as elsewhere, subprocess.Popen(["sleep", "30"]) as server:
        assert not listens(server.pid, elsewhere.getsockname()[1])
        server.kill()


@linux
@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0", "::"])
def test_the_table_of_connections_is_not_read(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has the connections of the whole machine: 13 ms for each server of a hundred that start."""
    monkeypatch.delattr(psutil.Process, "net_connections")
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, 0), family=family, dualstack_ipv6=":" in address) as server:
        assert listens(os.getpid(), server.getsockname()[1])


@linux
def test_a_reserved_port_has_no_listener_until_the_server_listens() -> None:
    with reserved_port("127.0.0.1") as port:
        with pytest.raises(OSError, match="no socket that listens"):
            find_listener(port)
        assert not listens(os.getpid(), port)
        with socket.create_server(("127.0.0.1", port)) as server:
            assert find_listener(port) == os.fstat(server.fileno()).st_ino
