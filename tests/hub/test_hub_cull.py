"""A server ends by its own launch's grant, and at once without a launch."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pangeo_binder.hub.cull import decide, should_cull
from pangeo_binder.model import STATE_KEY, to_wire
from tests.hub.hubprocess import NewLaunch

NOW = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)
IDLE, AGE = 600, 3600
"""Of the grant."""


def server(state: Any, age_seconds: float = 0) -> dict[str, Any]:
    started = (NOW - timedelta(seconds=age_seconds)).isoformat().replace("+00:00", "Z")
    return {"name": "", "started": started, "state": state}


@pytest.mark.parametrize(
    ("inactive", "age", "ends"),
    [
        (0, 0, False),
        (IDLE - 1, IDLE - 1, False),
        (IDLE, IDLE, True),
        (0, AGE - 1, False),
        (0, AGE, True),
        (10 * IDLE, 10 * AGE, True),
    ],
)
def test_by_the_launchs_own_grant(new_launch: NewLaunch, inactive: int, age: int, ends: bool) -> None:
    state = {STATE_KEY: to_wire(new_launch())}
    assert decide(timedelta(seconds=inactive), server(state, age), NOW) is ends


@pytest.mark.parametrize("state", [None, {}, {"pid": 1}, {STATE_KEY: None}, {STATE_KEY: {"id": "x"}}, {STATE_KEY: "x"}])
def test_a_server_without_a_launch_ends_at_once(state: Any) -> None:
    assert decide(timedelta(), server(state), NOW) is True


def test_user_options_do_not_matter(new_launch: NewLaunch) -> None:
    model = server({}) | {"user_options": {STATE_KEY: to_wire(new_launch())}, STATE_KEY: to_wire(new_launch())}
    assert decide(timedelta(), model, NOW) is True


def test_a_server_never_seen_active_is_judged_by_its_age(new_launch: NewLaunch) -> None:
    state = {STATE_KEY: to_wire(new_launch())}
    young = {"started": datetime.now(UTC).isoformat(), "state": state}
    assert should_cull(None, 60, young) is False
    assert should_cull(None, 60, young | {"started": "2026-01-01T00:00:00Z"}) is True
