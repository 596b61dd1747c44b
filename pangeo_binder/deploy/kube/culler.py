"""Configures jupyterhub-idle-culler on Kubernetes: it culls servers by their own grant, and users without a server.

The hub runs it, in the hub's pod.
"""

from __future__ import annotations

from typing import Any

from ...hub.cull import should_cull

_EVERY_SECONDS = 30
_USER_SECONDS = 300
"""How long the hub keeps an anonymous user without a server: long enough for its server to start."""


def configure(c: Any) -> None:
    """Configure the culler."""
    c.IdleCuller.cull_arbiter_hook = should_cull
    c.IdleCuller.cull_every = _EVERY_SECONDS
    c.IdleCuller.timeout = _USER_SECONDS
    c.IdleCuller.cull_users = True
