"""Decides when to cull a server: idle for too long, or too old, according to its launch's grant.

jupyterhub-idle-culler calls `should_cull` for every server, as its `cull_arbiter_hook`. A server without a launch in
its state was not started with one of our tickets, so it is culled at once. Runs in the culler's process.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from ..model import launch_of


def should_cull(inactive: timedelta | None, inactive_limit: int, server: dict[str, Any]) -> bool:
    """Return whether to cull the hub's `server` model now; the culler's own `inactive_limit` is not used."""
    return decide(inactive or timedelta(), server, datetime.now(UTC))


def decide(inactive: timedelta, server: dict[str, Any], now: datetime) -> bool:
    """Return whether to cull, at `now`, a server that has been inactive for `inactive`."""
    launch = launch_of(server)
    if launch is None:
        return True
    grant = launch.grant.server
    age = now - datetime.fromisoformat(server["started"])
    return inactive.total_seconds() >= grant.idle_seconds or age.total_seconds() >= grant.max_age_seconds
