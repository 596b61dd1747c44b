"""Shares look-ups: launches of one link at the same time send one request to the repository's host.

A class that clicks at once is one look-up, not a hundred git processes and a host that limits rates. Nothing is cached
here: a launch after the end of a look-up starts a new one. The number of look-ups at once is bounded, because each is a
few processes; and for each host, so that a host that answers slowly delays no other. Links of some kinds name any host,
and anybody can have many slow ones: these kinds together leave room for the others. A look-up ends when the last launch
leaves it. Runs in the binder.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar
from weakref import WeakValueDictionary

from .. import trace
from ..errors import UserError
from ..model import Repo, RepoRef
from ..policy.address import address_of
from ..repos.base import Provenance, Provider

PER_HOST = 8
"""How many look-ups of a kind run at once at one host; further ones wait."""
OPERATORS = frozenset({"gh", "gist", "gl", "zenodo", "figshare", "hydroshare", "swh"})
"""The kinds of links whose host the operator chooses."""
ANY_HOST = 24
"""How many are for all other kinds together, whose links name any host."""
AT_ONCE = ANY_HOST + PER_HOST * len(OPERATORS)
"""How many run in total, also for folders of this machine."""

K = TypeVar("K", RepoRef, Repo)
V = TypeVar("V")


class _Slots:
    """The slots of the look-ups of one kind; a slot for all is taken last, so who waits for a host holds none."""

    def __init__(self) -> None:
        self._all = asyncio.Semaphore(AT_ONCE)
        self._any_host = asyncio.Semaphore(ANY_HOST)
        self._by_host: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    @asynccontextmanager
    async def take(self, ref: RepoRef) -> AsyncIterator[None]:
        """Hold a slot for a look-up of `ref` while the block runs; folders of this machine count for no host."""
        async with AsyncExitStack() as held:
            if host := address_of(ref.url).host:
                await held.enter_async_context(self._by_host.setdefault(host, asyncio.Semaphore(PER_HOST)))
                if ref.provider not in OPERATORS:
                    await held.enter_async_context(self._any_host)
            await held.enter_async_context(self._all)
            yield


@dataclass(slots=True)
class _Running(Generic[V]):
    """One look-up, and how many launches wait for its answer."""

    task: asyncio.Task[V]
    callers: int = 0


class _Shared(Generic[K, V]):
    """Running look-ups of one kind."""

    def __init__(self) -> None:
        self._running: dict[K, _Running[V]] = {}
        self._slots = _Slots()

    async def answer(self, key: K, ask: Callable[[K], Awaitable[V]]) -> V:
        """Return the answer for `key`. Raises what `ask` raises.

        Cancelling this does not cancel the look-up for others; the last one that leaves ends it.
        """
        running = self._running.get(key) or self._begin(key, ask)
        running.callers += 1
        try:
            return await asyncio.shield(running.task)
        except UserError as error:
            raise type(error)(error.message, error.hint) from None  # one error in many tasks would mix their tracebacks
        finally:
            running.callers -= 1
            if not running.callers:
                self._forget(key, running)
                running.task.cancel()

    def _begin(self, key: K, ask: Callable[[K], Awaitable[V]]) -> _Running[V]:
        task = asyncio.create_task(self._in_turn(key, ask), name=f"look-up of {key}", context=trace.shared())
        running = self._running[key] = _Running(task)
        task.add_done_callback(lambda ended: self._forget(key, running))
        return running

    async def _in_turn(self, key: K, ask: Callable[[K], Awaitable[V]]) -> V:
        async with self._slots.take(key.ref if isinstance(key, Repo) else key):
            return await ask(key)

    def _forget(self, key: K, running: _Running[V]) -> None:
        if self._running.get(key) is running:
            del self._running[key]
        if running.task.done() and not running.task.cancelled():
            running.task.exception()  # all callers may have left; asyncio warns about an exception that was never read


class SharedLookups:
    """All running look-ups; the slow search for a commit's provenance does not hold up look-ups of commit ids."""

    def __init__(self) -> None:
        self._commits = _Shared[RepoRef, Repo]()
        self._provenances = _Shared[Repo, Provenance]()

    async def resolve(self, provider: Provider, ref: RepoRef) -> Repo:
        """Return `ref` at its revision. Raises RepoNotFound, RefNotFound or HostUnavailable."""
        return await self._commits.answer(ref, provider.resolve)

    async def find_provenance(self, provider: Provider, repo: Repo) -> Provenance:
        """Return the provenance of the revision. Raises RepoNotFound or HostUnavailable."""
        return await self._provenances.answer(repo, provider.find_provenance)
