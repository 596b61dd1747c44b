"""Measures how long each stage of a launch takes, and how launches end, for the metrics. Runs in the binder."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from typing import TypeVar

from .. import binderhub_metrics, metrics
from ..errors import QuotaExceeded
from ..model import Repo

T = TypeVar("T")


class Stages:
    """Stopwatch of one launch."""

    def __init__(self) -> None:
        self._lap = time.perf_counter()

    def done(self, stage: str) -> None:
        """Record the time since the previous stage ended as the duration of `stage`."""
        now = time.perf_counter()
        metrics.LAUNCH_STAGE_SECONDS.labels(stage).observe(now - self._lap)
        self._lap = now


@contextmanager
def measured_start(repo: Repo) -> Iterator[None]:
    """Record the start of a server of `repo` in BinderHub's series; one that its user leaves counts as neither."""
    began = time.perf_counter()
    try:
        with binderhub_metrics.LAUNCHES_IN_PROGRESS.track_inprogress():
            yield
    except Exception:
        _record(repo, "failure", "-1", began)
        raise
    _record(repo, "success", "0", began)


async def measured_admission(repo: Repo, admitting: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
    """Yield the steps of `admitting`; record a launch of `repo` that it refuses because a limit is full."""
    async with aclosing(admitting):
        try:
            async for step in admitting:
                yield step
        except QuotaExceeded:
            binderhub_metrics.LAUNCHES_BY_REPOSITORY.inc("repo_quota", repo.ref.provider, repo.ref.url)
            raise


def _record(repo: Repo, status: str, retries: str, began: float) -> None:
    binderhub_metrics.LAUNCH_SECONDS.labels(status, retries).observe(time.perf_counter() - began)
    binderhub_metrics.LAUNCHES_BY_REPOSITORY.inc(status, repo.ref.provider, repo.ref.url)
