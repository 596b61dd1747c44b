"""Decides when a server has to end: idle for too long, or too old, by its own launch's grant.

The decision is jupyterhub-idle-culler's `cull_arbiter_hook`; the culler asks it of every server. A server without a
launch in its state was not started by a ticket of ours and is ended at once. Runs in the culler's process.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from ..model import launch_of


def should_cull(inactive: timedelta | None, inactive_limit: int, server: dict[str, Any]) -> bool:
    """Return whether the hub's `server` model has to end now (`inactive_limit`, the culler's own, is not used)."""
    return decide(inactive or timedelta(), server, datetime.now(UTC))


def decide(inactive: timedelta, server: dict[str, Any], now: datetime) -> bool:
    """Return whether a server that has been `inactive` for so long has to end at `now`."""
    launch = launch_of(server)
    if launch is None:
        return True
    grant = launch.grant.server
    age = now - datetime.fromisoformat(server["started"])
    return inactive.total_seconds() >= grant.idle_seconds or age.total_seconds() >= grant.max_age_seconds
