"""Threads for file work, shared fairly: each launch may use only a part of them at the same time.

File operations block, so they run in threads. Three lanes keep kinds of work apart: short operations, walks through
folders, and copies of whole objects. `front` names the launch whose share a request uses; work of the service itself
has no share. Runs in the storage process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_SHARE_OF_FILES, _SHARE_OF_WALKS, _SHARE_OF_COPIES = 6, 1, 2
"""What one launch may run at the same time: a few of the threads below, so that no single launch occupies all."""
_FILES = ThreadPoolExecutor(24, "storage-files")
_WALKS = ThreadPoolExecutor(4, "storage-walks")
_COPIES = ThreadPoolExecutor(8, "storage-copies")


@dataclass(frozen=True, slots=True)
class Share:
    """One launch's share of the threads."""

    files: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_SHARE_OF_FILES))
    walks: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_SHARE_OF_WALKS))
    copies: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_SHARE_OF_COPIES))


_SHARE: ContextVar[Share | None] = ContextVar("share", default=None)


@contextmanager
def using(share: Share) -> Iterator[None]:
    """Run the file work of this task, and of tasks it starts, within `share`."""
    token = _SHARE.set(share)
    try:
        yield
    finally:
        _SHARE.reset(token)


async def in_file_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a short file operation in a thread."""
    share = _SHARE.get()
    return await _run(_FILES, share.files if share else None, partial(function, *args, **kwargs))


async def in_walk_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a walk through folders in a thread."""
    share = _SHARE.get()
    return await _run(_WALKS, share.walks if share else None, partial(function, *args, **kwargs))


async def in_copy_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a copy of a whole object in a thread."""
    share = _SHARE.get()
    return await _run(_COPIES, share.copies if share else None, partial(function, *args, **kwargs))


async def _run(pool: ThreadPoolExecutor, permits: asyncio.Semaphore | None, job: Callable[[], T]) -> T:
    loop = asyncio.get_running_loop()
    if permits is None:
        return await loop.run_in_executor(pool, job)
    async with permits:
        return await loop.run_in_executor(pool, job)
