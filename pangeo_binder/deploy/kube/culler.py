"""Configures the culler on Kubernetes: servers end by their own grant, anonymous users are removed after them.

The hub runs it, in the hub's pod.
"""

from __future__ import annotations

from typing import Any

from ...hub.cull import should_cull
from ...logs import application_logging
from .values import read_values

_EVERY_SECONDS = 30
_USER_SECONDS = 300
"""How long the hub keeps an anonymous user without a server, and a stopped server: long enough for it to start."""


def configure(c: Any) -> None:
    """Configure the culler."""
    c.LaunchCuller.logging_config = application_logging("culler", as_json=read_values().log_format == "json")
    c.IdleCuller.cull_arbiter_hook = should_cull
    c.IdleCuller.cull_every = _EVERY_SECONDS
    c.IdleCuller.remove_named_servers = True
    c.LaunchCuller.user_seconds = _USER_SECONDS
