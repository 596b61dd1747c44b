"""Ports of this machine for servers: found free, and found again as the server's own.

Between choosing a port and listening on it a server takes seconds, in which any connection of the machine may be given
a port of the ephemeral range; so ports are chosen below it, those of the stack's own services too, which need theirs
again after a crash. Runs in the hub of the local profile, and where a stack is begun.
"""

from __future__ import annotations

import random
import socket
from contextlib import suppress
from pathlib import Path

import psutil

_RANGE_FILE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_LOWEST, _NODE_PORTS, _EPHEMERAL = 20000, 30000, 32768
"""Where Kubernetes' node ports begin, which a cluster of the same machine takes without listening on them
(https://kubernetes.io/docs/concepts/services-networking/service/#type-nodeport), and where Linux' ephemeral range
begins by default (https://docs.kernel.org/networking/ip-sysctl.html)."""
_TRIES = 200


def server_port(host: str) -> int:
    """Return a port of `host` that nobody listens on, and that no connection is given by chance."""
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
    """Return whether the process `pid` or one it started listens on `port`, and not somebody else."""
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        return any(_has(each, port) for each in [process, *process.children(recursive=True)])
    return False


def _has(process: psutil.Process, port: int) -> bool:
    with suppress(psutil.Error):
        found = process.net_connections(kind="tcp")
        return any(each.status == psutil.CONN_LISTEN and each.laddr.port == port for each in found)
    return False
