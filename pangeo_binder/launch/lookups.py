"""Shares look-ups: launches of one link that come at the same time ask the repository's host once.

A room that clicks at once is one question, not a hundred processes of git and a host that limits rates. Nothing is
remembered here: who comes when a look-up has ended starts a new one. Only so many run at once, since each is a few
processes and a host may let its askers wait. Runs in the binder.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from ..errors import UserError
from ..model import Repo, RepoRef
from ..repos.base import Provenance, Provider

AT_ONCE = 32
"""How many look-ups of a kind run at once; further ones wait for their turn."""

K = TypeVar("K")
V = TypeVar("V")


class _Shared(Generic[K, V]):
    """Questions of one kind under way."""

    def __init__(self) -> None:
        self._under_way: dict[K, asyncio.Task[V]] = {}
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def answer(self, key: K, ask: Callable[[K], Awaitable[V]]) -> V:
        """Return the answer to `key`; cancelling this leaves the question to the others. Raises what `ask` raises."""
        task = self._under_way.get(key)
        if task is None:
            task = self._under_way[key] = asyncio.create_task(self._in_turn(key, ask), name=f"look-up of {key}")
            task.add_done_callback(lambda ended: self._forget(key, ended))
        try:
            return await asyncio.shield(task)
        except UserError as error:
            raise type(error)(error.message, error.hint) from None  # one error in many tasks would mix their traces

    async def _in_turn(self, key: K, ask: Callable[[K], Awaitable[V]]) -> V:
        async with self._turns:
            return await ask(key)

    def _forget(self, key: K, ended: asyncio.Task[V]) -> None:
        del self._under_way[key]
        if not ended.cancelled():
            ended.exception()  # all who asked may have left: nobody else would look at it


class SharedLookups:
    """The look-ups under way; the slow search for a commit's provenance takes no turn of a look-up of its id."""

    def __init__(self) -> None:
        self._commits = _Shared[RepoRef, Repo]()
        self._provenances = _Shared[Repo, Provenance]()

    async def resolve(self, provider: Provider, ref: RepoRef) -> Repo:
        """Return `ref` at its commit. Raises RepoNotFound or RefNotFound."""
        return await self._commits.answer(ref, provider.resolve)

    async def find_provenance(self, provider: Provider, repo: Repo) -> Provenance:
        """Return whether the commit is the repository's own. Raises RepoNotFound."""
        return await self._provenances.answer(repo, provider.find_provenance)
