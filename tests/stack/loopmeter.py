"""Measures the longest time for which this process held its event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

LONGEST_SECONDS = 0.05
"""How long strangers' input may hold the event loop of a service."""

_TICK_SECONDS = 0.005


@dataclass(slots=True)
class LoopMeter:
    """The longest stall so far."""

    worst_seconds: float = 0.0

    async def run(self) -> None:
        """Measure until cancelled.

        A tick that comes late counts only with the CPU time that this process took meanwhile, threads that hold the
        interpreter's lock included. So a busy machine makes no stall.
        """
        while True:
            wall, used = time.perf_counter(), time.process_time()
            await asyncio.sleep(_TICK_SECONDS)
            late = time.perf_counter() - wall - _TICK_SECONDS
            self.worst_seconds = max(self.worst_seconds, min(late, time.process_time() - used))


@asynccontextmanager
async def loop_meter(longest_seconds: float = LONGEST_SECONDS) -> AsyncIterator[LoopMeter]:
    """Measure the block, which may hold the loop for `longest_seconds` at a time."""
    meter = LoopMeter()
    measuring = asyncio.create_task(meter.run())
    await asyncio.sleep(2 * _TICK_SECONDS)
    try:
        yield meter
        await asyncio.sleep(2 * _TICK_SECONDS)  # the last stall counts as well
    finally:
        measuring.cancel()
    assert meter.worst_seconds <= longest_seconds, f"the loop was held for {meter.worst_seconds:.3f} s"
