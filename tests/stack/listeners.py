"""The sockets on which a running stack listens, each under the name that docs/security.md gives it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

import psutil

from .local import LocalStack, Session, command_of

_WORDS = {
    "multiprocessing.spawn": "worker",  # the nanny's child
    "dask_worker": "nanny",
    "dask_scheduler": "scheduler",
    "ipykernel": "kernel",
    "jupyter-lab": "session",
}


@dataclass(frozen=True)
class Listener:
    """One listening TCP socket."""

    name: str
    address: str
    port: int


def listeners(stack: LocalStack, session: Session) -> list[Listener]:
    """Return the listening sockets of the services and of one session; unknown ones are named by their command."""
    ports = {getattr(stack.values.ports, each.name): each.name for each in fields(stack.values.ports)}
    found = []
    for process in stack.processes():
        found += [Listener(ports.get(port, command_of(process)), ip, port) for ip, port in _sockets(process)]
    for process in stack.processes(session.id):
        command = command_of(process)
        name = next((name for word, name in _WORDS.items() if word in command), command)
        found += [Listener(name, ip, port) for ip, port in _sockets(process)]
    return found


def _sockets(process: psutil.Process) -> Iterator[tuple[str, int]]:
    for connection in process.net_connections("inet"):
        if connection.status == psutil.CONN_LISTEN:
            yield connection.laddr.ip, connection.laddr.port
