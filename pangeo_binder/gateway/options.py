"""The cluster options that a launch may choose, and those the gateway sets: interpreter, environment, limits, timeouts.

A launch may choose only the size of its workers, up to its grant. The environment is the session's own; the user
never types it. Runs in the gateway.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from dask_gateway_server.options import Float, Options

from ..dask_start import scheduler_command, worker_command
from ..limits import GIB, cluster_limits
from ..model import DaskGrant
from .auth import LaunchUser


@dataclass(frozen=True, slots=True)
class Runtime:
    """The interpreter and environment that start a launch's schedulers and workers."""

    python: str
    environment: dict[str, str]
    config: dict[str, Any] = field(default_factory=dict)
    """Backend-specific cluster configuration, such as the image and the namespace."""
    worker_preloads: tuple[str, ...] = ()
    """Modules that workers load."""

    def __repr__(self) -> str:
        return f"Runtime({self.python!r})"


class Size(Float):
    """A number within limits, not NaN: Python reads NaN in JSON, and it passes every comparison with a limit."""

    def validate(self, x: Any) -> float:
        """Return `x` as a float. Raises TypeError or ValueError with a message for the user."""
        number: float = super().validate(x)
        if math.isnan(number):
            raise ValueError(f"{self.field} must be a number, got {x}")
        return number


def options_for(grant: DaskGrant, runtime: Runtime, known: set[str]) -> Options:
    """Return the options of a launch with `grant`.

    `known` holds the names of the cluster configuration. traitlets ignores unknown names, so a limit under another name
    would not apply; it is an assertion error.
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
            "scheduler_cmd": scheduler_command(runtime.python),
            "worker_cmd": worker_command(runtime.python, *runtime.worker_preloads),
            "environment": {**runtime.environment, **_backstop(grant.idle_seconds)},
            "worker_cores": limits.worker_cores,
            "worker_threads": limits.worker_threads,
            "worker_memory": limits.worker_memory_bytes,
            "cluster_max_workers": limits.workers,
            "idle_timeout": float(grant.idle_seconds),
        }
        assert known.issuperset(config), "the cluster configuration does not know a limit, so it would not apply"
        return config

    return configure


def _backstop(idle_seconds: int) -> dict[str, str]:
    """Return the idle timeout after which a scheduler without a gateway ends itself, later than the gateway would."""
    return {"DASK_DISTRIBUTED__SCHEDULER__IDLE_TIMEOUT": f"{int(idle_seconds * 1.5)}s"}
