"""kill -9 of any process at random moments of a launch leaves nothing that no server owns, marked or not.

`benchmarks.kills` does the same for longer.
"""

from __future__ import annotations

import random
import time
from itertools import takewhile
from pathlib import Path

import pytest

from tests.stack.kills import KINDS, Killing, kills
from tests.stack.local import LocalStack

pytestmark = [pytest.mark.stack, pytest.mark.timeout(900)]

SEED = 20261126
SECONDS = 60
"""After this time, no further launch begins."""


def test_random_kills_leave_nothing_that_no_server_owns(tmp_path: Path) -> None:
    chosen = random.Random(SEED)
    killing = Killing(LocalStack(tmp_path / "state"), chosen)
    try:
        killing.start()
        begin = time.monotonic()
        rounds = takewhile(lambda _: time.monotonic() < begin + SECONDS, kills(chosen))
        done = [kill for planned in rounds for kill in killing.round(planned)]
        assert done and {kill.kind for kill in done} <= set(KINDS)
        killing.finish()
    finally:
        killing.stack.stop()
    assert not killing.escaped() and not killing.stack.processes()
