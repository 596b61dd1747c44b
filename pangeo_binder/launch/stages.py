"""Measures how long each stage of a launch takes. Runs in the binder; the numbers are in the binder's metrics."""

from __future__ import annotations

import time

from .. import metrics


class Stages:
    """A stopwatch with laps."""

    def __init__(self) -> None:
        self._lap = time.perf_counter()

    def done(self, stage: str) -> None:
        """Observe the time since the stage before as the time of `stage`."""
        now = time.perf_counter()
        metrics.LAUNCH_STAGE_SECONDS.labels(stage).observe(now - self._lap)
        self._lap = now
