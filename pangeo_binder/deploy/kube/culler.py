"""Configures jupyterhub-idle-culler on Kubernetes: each server by its own grant, and users that have no server left.

The hub runs it, in its own pod.
"""

from __future__ import annotations

from typing import Any

from ...hub.cull import should_cull

_EVERY_SECONDS = 30
_USER_SECONDS = 300
"""How long an anonymous user without a server is kept: long enough for a server about to start."""


def configure(c: Any) -> None:
    """Configure the culler."""
    c.IdleCuller.cull_arbiter_hook = should_cull
    c.IdleCuller.cull_every = _EVERY_SECONDS
    c.IdleCuller.timeout = _USER_SECONDS
    c.IdleCuller.cull_users = True
