"""Measures the longest time for which this process held its event loop."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

LONGEST_SECONDS = 0.05
"""How long strangers' input may hold the event loop of a service."""

_TICK_SECONDS = 0.005
_CONTROL_SECONDS = 0.2
_TOLERANCE = 5
"""How many times as long as in the control a stall may be on a busy machine."""


@dataclass(slots=True)
class LoopMeter:
    """The longest stall so far, and the longest allowed."""

    limit_seconds: float
    worst_seconds: float = 0.0

    async def run(self) -> None:
        """Measure until cancelled.

        A tick that comes late counts only with the CPU time that this process took meanwhile, threads that hold the
        interpreter's lock included. So other processes make no stall.
        """
        while True:
            wall, used = time.perf_counter(), time.process_time()
            await asyncio.sleep(_TICK_SECONDS)
            late = time.perf_counter() - wall - _TICK_SECONDS
            self.worst_seconds = max(self.worst_seconds, min(late, time.process_time() - used))


async def _control() -> float:
    """Return the longest stall next to a thread that only counts: of the machine as it is now."""
    meter, ended = LoopMeter(0), threading.Event()

    def count() -> None:
        while not ended.is_set():
            pass

    thread = threading.Thread(target=count)
    thread.start()
    try:
        with suppress(TimeoutError):
            await asyncio.wait_for(meter.run(), _CONTROL_SECONDS)
    finally:
        ended.set()
        await asyncio.to_thread(thread.join)
    return meter.worst_seconds


@asynccontextmanager
async def loop_meter(longest_seconds: float = LONGEST_SECONDS) -> AsyncIterator[LoopMeter]:
    """Measure the block, which may hold the loop for `longest_seconds` at a time, on a busy machine a little longer."""
    meter = LoopMeter(max(longest_seconds, _TOLERANCE * await _control()))
    gc.collect()
    gc.freeze()  # a collection goes through all objects, and a test process has many more than a service
    measuring = asyncio.create_task(meter.run())
    await asyncio.sleep(2 * _TICK_SECONDS)
    try:
        yield meter
        await asyncio.sleep(2 * _TICK_SECONDS)  # the last stall counts as well
    finally:
        measuring.cancel()
        gc.unfreeze()
    held = f"the loop was held for {meter.worst_seconds:.3f} s"
    assert meter.worst_seconds <= meter.limit_seconds, f"{held}, more than {meter.limit_seconds:.3f} s"
