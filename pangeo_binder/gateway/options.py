"""What a launch may choose of its clusters, and what the server decides: interpreter, environment, limits, timeouts.

A launch chooses the size of its workers, up to its grant, and nothing else: the environment is the session's own and
never typed by the user. Runs in the gateway.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from dask_gateway_server.options import Float, Options

from ..limits import GIB, cluster_limits
from ..model import DaskGrant
from .auth import LaunchUser


@dataclass(frozen=True, slots=True)
class Runtime:
    """How a launch's schedulers and workers are started."""

    python: str
    environment: dict[str, str]
    config: dict[str, Any] = field(default_factory=dict)
    """More of the cluster's configuration, where its backend knows more: the image, the namespace …"""

    def __repr__(self) -> str:
        return f"Runtime({self.python!r})"


class Size(Float):
    """A number within its limits. NaN, which Python reads in JSON, is neither below nor above any."""

    def validate(self, x: Any) -> float:
        """Return `x`. Raises TypeError or ValueError with a sentence for the person."""
        number: float = super().validate(x)
        if math.isnan(number):
            raise ValueError(f"{self.field} must be a number, got {x}")
        return number


def options_for(grant: DaskGrant, runtime: Runtime, known: set[str]) -> Options:
    """Return the options of a launch with `grant`.

    `known` are the names the cluster configuration has: a limit under another name would be no limit, since traitlets
    ignores what it does not know, so that is refused.
    """
    size = grant.worker_memory_bytes / GIB
    return Options(
        Size("worker_cores", grant.worker_cores, min=0.1, max=grant.worker_cores, label="Cores per worker"),
        Size("worker_memory", size, min=0.25, max=size, label="Memory per worker (GiB)"),
        handler=_handler(grant, runtime, known),
    )


def _handler(grant: DaskGrant, runtime: Runtime, known: set[str]) -> Callable[[Any, LaunchUser], dict[str, Any]]:
    def configure(options: Any, user: LaunchUser) -> dict[str, Any]:
        limits = cluster_limits(grant, options.worker_cores, int(options.worker_memory * GIB))
        config = {
            **runtime.config,
            # the scripts dask-scheduler and dask-worker are gone since distributed 2026.6; the modules are in all
            "scheduler_cmd": [runtime.python, "-m", "distributed.cli.dask_scheduler"],
            "worker_cmd": [runtime.python, "-m", "distributed.cli.dask_worker"],
            "environment": {**runtime.environment, **_backstop(grant.idle_seconds)},
            "worker_cores": limits.worker_cores,
            "worker_threads": limits.worker_threads,
            "worker_memory": limits.worker_memory_bytes,
            "cluster_max_workers": limits.workers,
            "idle_timeout": float(grant.idle_seconds),
        }
        assert known.issuperset(config), "a limit the cluster configuration does not know would not limit"
        return config

    return configure


def _backstop(idle_seconds: int) -> dict[str, str]:
    """A scheduler cut off from the gateway ends by itself, somewhat later than the gateway would have ended it."""
    return {"DASK_DISTRIBUTED__SCHEDULER__IDLE_TIMEOUT": f"{int(idle_seconds * 1.5)}s"}
