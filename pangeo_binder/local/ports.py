"""Reserves free ports of this machine.

A server listens seconds after its port was chosen. In that time the kernel may give any port of the ephemeral range to
a connection, so ports are chosen below that range, and a socket keeps each from other launches. This includes the ports
of the stack's services, which need the same ones after a crash. Who listens on a port is found by `listeners`. Runs in
the hub of the local profile and in the process that starts a stack.
"""

from __future__ import annotations

import random
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_RANGE_FILE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_LOWEST, _NODE_PORTS, _EPHEMERAL = 20000, 30000, 32768
"""The lowest port to choose; the first of Kubernetes' node ports, which a local cluster uses without listening on them
(https://kubernetes.io/docs/concepts/services-networking/service/#type-nodeport); and the default start of Linux's
ephemeral range (https://docs.kernel.org/networking/ip-sysctl.html)."""
_TRIES = 200
_RANDOM = random.SystemRandom()
"""Not the module's own generator: processes in which something seeded that would all try the same ports."""

_reserved: set[int] = set()
"""The reserved ports of this process."""


@contextmanager
def reserved_port(host: str, wanted: int = 0) -> Iterator[int]:
    """Reserve the port `wanted` of `host`, else a free one, until the block is left. Raises OSError if it is taken.

    A free one is outside the ephemeral and node-port ranges if possible.

    On Linux, no process can reserve it or bind it by accident, but a server that sets SO_REUSEADDR, as nearly all do,
    can listen on it meanwhile (socket(7)). Elsewhere, only this process cannot reserve it again.
    """
    with _bound_to(host, wanted) if wanted else _bound_socket(host) as holder:
        port = int(holder.getsockname()[1])
        _reserved.add(port)
        try:
            if sys.platform == "linux":
                holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # not before: others could bind it as well
            else:
                holder.close()
            yield port
        finally:
            _reserved.discard(port)


def _bound_to(host: str, port: int) -> socket.socket:
    holder = socket.socket()
    try:
        # connections to a stack that has just stopped may still hold the port otherwise
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind((host, port))
    except OSError:
        holder.close()
        raise
    return holder


def _bound_socket(host: str) -> socket.socket:
    end = min(_ephemeral_from(), _NODE_PORTS)
    for port in [*_RANDOM.sample(range(_LOWEST, max(end, _LOWEST + _TRIES)), _TRIES), 0]:
        holder = socket.socket()
        try:
            if port not in _reserved:
                holder.bind((host, port))
                return holder
        except OSError:
            pass
        holder.close()
    raise OSError(f"no free port at {host}")


def server_port(host: str) -> int:
    """Return a free port of `host`, which is not reserved."""
    with reserved_port(host) as port:
        return port


def _ephemeral_from() -> int:
    with suppress(OSError, ValueError, IndexError):
        return int(_RANGE_FILE.read_text().split()[0])
    return _EPHEMERAL
