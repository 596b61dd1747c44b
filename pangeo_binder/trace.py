"""The trace and the launch that the running code works for, as its log says and as requests carry them.

A trace follows one request through all processes by the header `traceparent`. A program that calls the binder, or a
proxy in front of it, may begin it. It is neither secret nor proof of anything. Each asyncio task has its own, copied
from the task that made it. Pure, except for this context. Format:
https://www.w3.org/TR/trace-context/#traceparent-header
"""

from __future__ import annotations

import re
import secrets
from contextvars import Context, ContextVar
from dataclasses import dataclass, replace
from typing import Final

HEADER: Final = "traceparent"

_FORMAT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.{0,200})?")
_INVALID_VERSION, _VERSION = "ff", "00"
_SAMPLED: Final = 1
"""The only flag that a service passes on of those that it knows."""


@dataclass(frozen=True, slots=True)
class Trace:
    """A trace, and the launch that it is for once that is known."""

    id: str
    """32 hexadecimal digits."""
    sampled: bool = False
    """Whether the caller records this trace."""
    launch_id: str = ""

    @property
    def header(self) -> str:
        """The value of `traceparent` for one more request; each has a new parent id."""
        return f"{_VERSION}-{self.id}-{secrets.token_hex(8)}-{int(self.sampled):02x}"


_CURRENT: ContextVar[Trace | None] = ContextVar("trace", default=None)


def current() -> Trace | None:
    """Return the trace of the running code; None for work that belongs to no request."""
    return _CURRENT.get()


def enter(header: str = "", launch_id: str = "") -> Trace:
    """Continue the trace of a request with this `traceparent`, or begin one if it has none that is valid.

    It holds for the running task from now on, and for the tasks that this one makes.
    """
    trace = replace(_read(header) or Trace(secrets.token_hex(16)), launch_id=launch_id)
    _CURRENT.set(trace)
    return trace


def enter_launch(launch_id: str, trace: Trace | None = None) -> Trace:
    """Say that the running code works for a launch, in `trace`, else in its own, else in a new one."""
    known = trace or _CURRENT.get() or Trace(secrets.token_hex(16))
    entered = replace(known, launch_id=launch_id)
    _CURRENT.set(entered)
    return entered


def shared() -> Context:
    """Return the context for a task that works for several launches, and so for none of them."""
    return Context()


def _read(header: str) -> Trace | None:
    parts = _FORMAT.fullmatch(header.strip())
    if parts is None or parts[1] == _INVALID_VERSION or (parts[1] == _VERSION and parts[5]):
        return None
    if not int(parts[2], 16) or not int(parts[3], 16):
        return None
    return Trace(parts[2], bool(int(parts[4], 16) & _SAMPLED))
