"""Measures how long each stage of a launch takes, for the binder's metrics. Runs in the binder."""

from __future__ import annotations

import time

from .. import metrics


class Stages:
    """Stopwatch of one launch."""

    def __init__(self) -> None:
        self._lap = time.perf_counter()

    def done(self, stage: str) -> None:
        """Record the time since the previous stage ended as the duration of `stage`."""
        now = time.perf_counter()
        metrics.LAUNCH_STAGE_SECONDS.labels(stage).observe(now - self._lap)
        self._lap = now
