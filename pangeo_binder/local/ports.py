"""Chooses free ports of this machine, and checks whether a process listens on a port.

A server listens seconds after its port was chosen. In that time the kernel may give any port of the ephemeral range to
a connection, so ports are chosen below that range. This includes the ports of the stack's services, which need the same
ones after a crash. Runs in the hub of the local profile and in the process that starts a stack.
"""

from __future__ import annotations

import random
import socket
from contextlib import suppress
from pathlib import Path

import psutil

_RANGE_FILE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_LOWEST, _NODE_PORTS, _EPHEMERAL = 20000, 30000, 32768
"""The lowest port to choose; the first of Kubernetes' node ports, which a local cluster uses without listening on them
(https://kubernetes.io/docs/concepts/services-networking/service/#type-nodeport); and the default start of Linux's
ephemeral range (https://docs.kernel.org/networking/ip-sysctl.html)."""
_TRIES = 200


def server_port(host: str) -> int:
    """Return a free port of `host`, outside the ephemeral and node-port ranges if possible."""
    end = min(_ephemeral_from(), _NODE_PORTS)
    for port in random.sample(range(_LOWEST, max(end, _LOWEST + _TRIES)), _TRIES):
        with suppress(OSError), socket.socket() as probe:
            probe.bind((host, port))
            return port
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def _ephemeral_from() -> int:
    with suppress(OSError, ValueError, IndexError):
        return int(_RANGE_FILE.read_text().split()[0])
    return _EPHEMERAL


def listens(pid: int, port: int) -> bool:
    """Return whether the process `pid` or one of its descendants listens on `port`."""
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        # to find descendants, psutil reads every process of this machine
        return _listens_itself(process, port) or any(
            _listens_itself(each, port) for each in process.children(recursive=True)
        )
    return False


def _listens_itself(process: psutil.Process, port: int) -> bool:
    with suppress(psutil.Error):
        found = process.net_connections(kind="tcp")
        return any(each.status == psutil.CONN_LISTEN and each.laddr.port == port for each in found)
    return False
