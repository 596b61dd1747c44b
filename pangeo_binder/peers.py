"""Isolates a process from the services that it calls: retries, and a circuit breaker for each peer.

A peer is one service by its kind and address. After a few calls in a row without an answer, the others are refused at
once instead of waiting for the same timeout; then one call at a time tries whether the peer answers again. Used by the
binder and the hub. Not for time limits, which each client has, nor for how many calls run at a time (`launch.lookups`).
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt, stop_after_delay, wait_random_exponential

from . import metrics
from .errors import UserError

log = logging.getLogger(__name__)

T = TypeVar("T")

_ATTEMPTS = 3
_QUICK_SECONDS = 2.0
"""After this time there is no further attempt: a call that ran into its timeout is not repeated."""
_WAIT_SECONDS, _LONGEST_WAIT_SECONDS = 0.1, 1.0
"""A retry waits for a random time between 0 and these, so that a hundred launches do not repeat a call together:
https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/ ("full jitter")"""
_KEPT = 1000
"""How many peers are remembered; strangers' links name hosts."""


class PeerKind(StrEnum):
    """The kinds of peers, which metrics show; addresses are not shown, because strangers choose some of them."""

    HUB = "hub"
    REGISTRY = "registry"
    REPOSITORY_HOST = "repository_host"
    STORAGE = "storage"
    GATEWAY = "gateway"


@dataclass(frozen=True, slots=True)
class Peering:
    """How the peers of one kind are treated."""

    kind: PeerKind
    is_failure: Callable[[BaseException], bool]
    """Whether an error means that the peer did not answer; any other error is an answer."""
    refusal: Callable[[str], UserError]
    """Makes the error for a call that is refused, from the peer's address."""
    failures: int = 5
    """How many calls in a row may fail before further ones are refused."""
    seconds: float = 15
    """For how long they are refused before one of them is tried."""


class _Breaker:
    """The state of one peer: closed; open after several failures; half-open while one call is tried."""

    def __init__(self, peering: Peering) -> None:
        self._peering = peering
        self._failed = 0
        self._subjects: set[str] = set()
        self._until = 0.0
        self._trial = False
        self.calls = 0
        """How many calls are under way."""

    @property
    def is_open(self) -> bool:
        return self._failed >= self._peering.failures

    @property
    def is_refusing(self) -> bool:
        """Whether a call would be refused now."""
        return self.is_open and (self._trial or time.monotonic() < self._until)

    def enter(self, is_probe: bool) -> bool:
        """Begin a call; return whether it is the one that is tried."""
        self.calls += 1
        is_trial = self.is_open and not is_probe
        self._trial |= is_trial
        return is_trial

    def leave(self, is_trial: bool, failed: bool | None, subject: str) -> None:
        """End a call: `failed` is None if its caller left before it ended."""
        self.calls -= 1
        self._trial &= not is_trial
        if failed is None:
            return
        if not failed:
            self._failed, self._until = 0, 0.0
            self._subjects.clear()
            return
        # a host may fail for one repository only, which must not close it to all others
        if not subject or subject not in self._subjects:
            self._failed += 1
        if subject and not self.is_open:
            self._subjects.add(subject)
        if self.is_open:
            self._until = time.monotonic() + self._peering.seconds


class Peers:
    """All peers of one kind that this process calls, by their address."""

    def __init__(self, peering: Peering) -> None:
        self._peering = peering
        self._breakers: OrderedDict[str, _Breaker] = OrderedDict()
        metrics.PEERS_REFUSED.labels(peering.kind).set_function(self._count_refused)

    async def call(
        self, ask: Callable[[], Awaitable[T]], address: str, *, subject: str = "", repeat: bool = False
    ) -> T:
        """Return what `ask` returns, or refuse the call if the peer at `address` has stopped answering.

        With `repeat`, a call that fails quickly is repeated, so it must be safe to make twice. Failures of the same
        `subject`, such as a repository, count once. Raises what `ask` raises, and the error of `Peering.refusal`.
        """
        with self._watched(address, subject):
            return await (self._repeated(ask) if repeat else ask())

    async def probe(self, ask: Callable[[], Awaitable[T]], address: str) -> T:
        """Return what `ask` returns; never refuse it, because it is made regularly and shows whether a peer is back."""
        with self._watched(address, "", is_probe=True):
            return await ask()

    async def _repeated(self, ask: Callable[[], Awaitable[T]]) -> T:
        began = time.monotonic()
        try:
            return await ask()  # without tenacity, whose part of a launch can be measured
        except Exception as error:
            left = _QUICK_SECONDS - (time.monotonic() - began)
            if left <= 0 or not self._peering.is_failure(error):
                raise
            return await self._again(ask, error, left)

    async def _again(self, ask: Callable[[], Awaitable[T]], failed: Exception, seconds: float) -> T:
        """Repeat a call that has `failed` once, if `seconds` leave time for it."""
        attempts = AsyncRetrying(
            stop=stop_after_attempt(_ATTEMPTS) | stop_after_delay(seconds),
            wait=wait_random_exponential(multiplier=_WAIT_SECONDS, max=_LONGEST_WAIT_SECONDS),
            retry=retry_if_exception(self._peering.is_failure),
            reraise=True,
        )
        try:
            async for attempt in attempts:
                with attempt:
                    if attempt.retry_state.attempt_number == 1:
                        raise failed
                    return await ask()
        finally:
            del failed  # its traceback refers to this frame
        raise AssertionError("the last attempt raises its error")

    @contextmanager
    def _watched(self, address: str, subject: str, is_probe: bool = False) -> Iterator[None]:
        """Note how the call in this block ends. Raises the refusal if the peer has stopped answering."""
        breaker, kind = self._breaker(address), self._peering.kind
        if not is_probe and breaker.is_refusing:
            metrics.PEER_CALLS.labels(kind, "refused").inc()
            raise self._peering.refusal(address)
        was_open, failed, is_trial = breaker.is_open, None, breaker.enter(is_probe)
        try:
            yield
            failed = False
        except Exception as error:
            failed = self._peering.is_failure(error)
            raise
        finally:
            breaker.leave(is_trial, failed, subject)
            metrics.PEER_CALLS.labels(kind, {None: "left", True: "failed", False: "answered"}[failed]).inc()
            if breaker.is_open != was_open:
                log.warning("A peer (%s) %s", kind, "does not answer" if breaker.is_open else "answers again")

    def _breaker(self, address: str) -> _Breaker:
        breaker = self._breakers.setdefault(address, _Breaker(self._peering))
        self._breakers.move_to_end(address)
        if len(self._breakers) > _KEPT:
            unused = (name for name, each in self._breakers.items() if not each.calls and each is not breaker)
            self._breakers.pop(next(unused, ""), None)
        return breaker

    def _count_refused(self) -> int:
        return sum(each.is_refusing for each in self._breakers.values())
