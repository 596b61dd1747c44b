"""Shares look-ups: launches of one link that come at the same time ask the repository's host once.

A room that clicks at once is one question, not a hundred processes of git and a host that limits rates. Nothing is
remembered: who comes when a look-up has ended starts a new one. Only so many run at once, since each is a few processes
and a host may let its askers wait. Runs in the binder.
"""

from __future__ import annotations

import asyncio

from ..errors import UserError
from ..model import Repo, RepoRef
from ..repos.base import Provider

AT_ONCE = 32
"""How many look-ups run at once; further ones wait for their turn."""


class SharedLookups:
    """The look-ups under way."""

    def __init__(self) -> None:
        self._under_way: dict[RepoRef, asyncio.Task[Repo]] = {}
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def resolve(self, provider: Provider, ref: RepoRef) -> Repo:
        """Return `ref` at its commit; cancelling this leaves the look-up to the others.

        Raises RepoNotFound or RefNotFound.
        """
        task = self._under_way.get(ref)
        if task is None:
            task = self._under_way[ref] = asyncio.create_task(
                self._in_turn(provider, ref), name=f"look-up of {ref.name}"
            )
            task.add_done_callback(lambda ended: self._forget(ref, ended))
        try:
            return await asyncio.shield(task)
        except UserError as error:
            raise type(error)(error.message, error.hint) from None  # one error in many tasks would mix their traces

    async def _in_turn(self, provider: Provider, ref: RepoRef) -> Repo:
        async with self._turns:
            return await provider.resolve(ref)

    def _forget(self, ref: RepoRef, ended: asyncio.Task[Repo]) -> None:
        del self._under_way[ref]
        if not ended.cancelled():
            ended.exception()  # all who asked may have left: nobody else would look at it
