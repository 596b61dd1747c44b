"""Shares look-ups: launches of one link at the same time send one request to the repository's host.

A class that clicks at once is one look-up, not a hundred git processes and a host that limits rates. Nothing is cached
here: a launch after the end of a look-up starts a new one. The number of look-ups at once is bounded, because each is a
few processes and a host may answer slowly. Runs in the binder.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from ..errors import UserError
from ..model import Repo, RepoRef
from ..repos.base import Provenance, Provider

AT_ONCE = 32
"""How many look-ups of a kind run at once; further ones wait."""

K = TypeVar("K")
V = TypeVar("V")


class _Shared(Generic[K, V]):
    """Running look-ups of one kind."""

    def __init__(self) -> None:
        self._running: dict[K, asyncio.Task[V]] = {}
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def answer(self, key: K, ask: Callable[[K], Awaitable[V]]) -> V:
        """Return the answer for `key`; cancelling this does not cancel it for others. Raises what `ask` raises."""
        task = self._running.get(key)
        if task is None:
            task = self._running[key] = asyncio.create_task(self._in_turn(key, ask), name=f"look-up of {key}")
            task.add_done_callback(lambda ended: self._forget(key, ended))
        try:
            return await asyncio.shield(task)
        except UserError as error:
            raise type(error)(error.message, error.hint) from None  # one error in many tasks would mix their tracebacks

    async def _in_turn(self, key: K, ask: Callable[[K], Awaitable[V]]) -> V:
        async with self._turns:
            return await ask(key)

    def _forget(self, key: K, ended: asyncio.Task[V]) -> None:
        del self._running[key]
        if not ended.cancelled():
            ended.exception()  # all callers may have left; asyncio warns about an exception that was never read


class SharedLookups:
    """All running look-ups; the slow search for a commit's provenance does not hold up look-ups of commit ids."""

    def __init__(self) -> None:
        self._commits = _Shared[RepoRef, Repo]()
        self._provenances = _Shared[Repo, Provenance]()

    async def resolve(self, provider: Provider, ref: RepoRef) -> Repo:
        """Return `ref` at its revision. Raises RepoNotFound or RefNotFound."""
        return await self._commits.answer(ref, provider.resolve)

    async def find_provenance(self, provider: Provider, repo: Repo) -> Provenance:
        """Return the provenance of the revision. Raises RepoNotFound."""
        return await self._provenances.answer(repo, provider.find_provenance)
