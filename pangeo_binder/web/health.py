"""Health of what the binder depends on, each result with its age; `api.HealthApi` shows it. Binder process.

A check is made at most every `_KEPT_SECONDS`, however many requests ask for it, and takes at most `_SECONDS`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial

import aiohttp

from .. import trace
from .context import Check

log = logging.getLogger("pangeo_binder.web")

_SECONDS = 5
"""How long a check may take."""
_KEPT_SECONDS = 15
"""How long a result is kept, as in BinderHub."""
_FAILURE_KEPT_SECONDS = 5

Probe = Callable[[], Awaitable[Check]]


class HealthChecks:
    """All health checks of a binder, with their latest results."""

    def __init__(self, probes: Mapping[str, Probe], is_stopping: Callable[[], bool] = lambda: False) -> None:
        """`probes` maps each service's name to its check. A binder that is stopping is unhealthy itself."""
        self._checks = [_KeptCheck(service, probe) for service, probe in probes.items()]
        self._is_stopping = is_stopping

    async def __call__(self) -> list[Check]:
        """Return the result of each check, in the order of the probes."""
        draining = Check("binder", False, "is draining: it finishes launches and starts no more")
        own = [draining] if self._is_stopping() else []
        return own + list(await asyncio.gather(*(check.result() for check in self._checks)))


class _KeptCheck:
    """One check with its latest result, shared by all who ask."""

    def __init__(self, service: str, probe: Probe) -> None:
        self._service, self._probe = service, probe
        self._running: asyncio.Task[Check] | None = None
        self._latest: Check | None = None
        self._at = 0.0

    async def result(self) -> Check:
        age = time.monotonic() - self._at
        if self._latest is None or age >= (_KEPT_SECONDS if self._latest.ok else _FAILURE_KEPT_SECONDS):
            if self._running is None:
                self._running = asyncio.create_task(
                    self._look(), name=f"health of {self._service}", context=trace.shared()
                )
                self._running.add_done_callback(self._looked)
            # shielded, because others wait for it too
            return await asyncio.shield(self._running)
        return replace(self._latest, age_seconds=round(age, 1))

    async def _look(self) -> Check:
        try:
            async with asyncio.timeout(_SECONDS):
                return await self._probe()
        except TimeoutError:
            return Check(self._service, ok=False, message="does not answer")
        except Exception:  # monitoring must see a check that fails as an unhealthy service
            log.exception("The health check of %s failed.", self._service)
            return Check(self._service, ok=False, message="the check failed with an error")

    def _looked(self, task: asyncio.Task[Check]) -> None:
        self._running = None
        if not task.cancelled():
            self._latest, self._at = task.result(), time.monotonic()


def url_probe(service: str, url: str) -> Probe:
    """Return a check by one GET request to `url`: healthy with status 200."""
    return partial(_get, service, url)


async def _get(service: str, url: str) -> Check:
    try:
        async with aiohttp.ClientSession() as session, session.get(url, allow_redirects=False) as response:
            return Check(service, response.status == 200, f"answers {response.status}")
    except aiohttp.ClientError:
        return Check(service, False, "does not answer")
