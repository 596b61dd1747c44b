"""Configures jupyterhub-idle-culler: it culls servers by their own grant, and users without a server."""

from __future__ import annotations

from typing import Any

from ...hub.cull import should_cull

_EVERY_SECONDS = 10
_USER_SECONDS = 60
"""How long the hub keeps an anonymous user without a server: long enough for its server to start."""


def configure(c: Any, state_dir: str) -> None:
    """Configure the culler of the stack at `state_dir`."""
    c.IdleCuller.cull_arbiter_hook = should_cull
    c.IdleCuller.cull_every = _EVERY_SECONDS
    c.IdleCuller.timeout = _USER_SECONDS
    c.IdleCuller.cull_users = True
