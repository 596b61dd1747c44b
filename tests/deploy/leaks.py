"""Finds the secrets of a running stack and its sessions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psutil

from pangeo_binder.model import to_wire
from tests.stack.local import LocalStack, Session

_LAUNCH_SECRETS = (
    "JUPYTER_TOKEN",
    "JUPYTERHUB_API_TOKEN",
    "JPY_API_TOKEN",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "DASK_GATEWAY_API_TOKEN",
)


def texts(wire: Any) -> Iterator[str]:
    """Yield every string in JSON-compatible values."""
    if isinstance(wire, str):
        yield wire
    elif isinstance(wire, dict | list):
        for each in wire.values() if isinstance(wire, dict) else wire:
            yield from texts(each)


def secrets_of(stack: LocalStack, session: Session) -> dict[str, str]:
    """Return all secrets of the stack and of one session, each with a label."""
    found = dict.fromkeys(texts(to_wire(stack.values.secrets)), "of the stack")
    found[session.token] = "the session's token"
    for process in (*stack.processes(), *stack.processes(session.id)):
        try:
            environ = process.environ()
        except psutil.Error:
            continue  # ended in the meantime
        found |= {environ[name]: name for name in _LAUNCH_SECRETS if environ.get(name)}
    return found
