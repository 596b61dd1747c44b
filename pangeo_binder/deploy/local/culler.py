"""Configures the culler: servers end by their own grant, anonymous users are removed after them."""

from __future__ import annotations

from typing import Any

from ...hub.cull import should_cull
from ...logs import application_logging

_EVERY_SECONDS = 10
_USER_SECONDS = 60
"""How long the hub keeps an anonymous user without a server, and a stopped server: long enough for it to start."""


def configure(c: Any, state_dir: str) -> None:
    """Configure the culler of the stack at `state_dir`."""
    c.LaunchCuller.logging_config = application_logging("culler")
    c.IdleCuller.cull_arbiter_hook = should_cull
    c.IdleCuller.cull_every = _EVERY_SECONDS
    c.IdleCuller.remove_named_servers = True
    c.LaunchCuller.user_seconds = _USER_SECONDS
