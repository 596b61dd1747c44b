"""Decides which build runs next, and on whose account: fair turns, and limits per network, per repository and in total.

Networks take turns, and within a network its repositories; builds of one repository run in the order in which they were
asked for. A build runs on the account of one that asked for it until it ends, also if that one has left. Each binder
process counts its own builds. Runs in the binder. Not for making builds, nor for who follows them (`builds`).
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from .. import binderhub_metrics
from ..errors import QuotaExceeded
from ..metrics import BUILDS_IN_PROGRESS, BUILDS_WAITING

_REMEMBERED = 1000
"""How many networks and repositories are remembered for when they last had a turn."""
_NETWORK_PART = 10
"""One network fills at most this part of the queue, so that it cannot keep others out of it."""
_AGAIN = "Open the link again in a few minutes."


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildShares:
    """How the builds of one binder process share its slots. The defaults fit a personal machine."""

    concurrent: int = 2
    """How many builds run at once."""
    per_network: int = 2
    """How many of them run for one network."""
    per_repository: int = 2
    """How many of them run for one repository: of different commits, since a commit has one build."""
    waiting: int = 100
    """How many builds may wait for a slot; one network may have a tenth of them."""
    grace_seconds: float = 60
    """How long a build runs on that nobody follows any more."""


@dataclass(frozen=True, slots=True)
class Asker:
    """On whose account a build runs: a network, and the repository by its identity for rules and queues."""

    network: str
    repository: str


IN_ADVANCE = Asker("", "")
"""The binder itself: such a build takes a slot and counts for nobody, and runs on without followers."""


class Turn:
    """One build's place: it waits until `account` is set."""

    def __init__(self, moved: Callable[[], None]) -> None:
        """`moved` is called when `position` or `account` has changed."""
        self.moved = moved
        self.askers = Counter[Asker]()
        self.account: Asker | None = None
        self.position = 0
        """The position in the queue, from 1; a newcomer of another network may come before this one."""
        self._begun = asyncio.Event()

    @property
    def waits(self) -> bool:
        """Whether the build still waits for a slot."""
        return self.account is None

    async def begun(self) -> None:
        """Return when the build has a slot."""
        await self._begun.wait()

    def begin(self, account: Asker) -> None:
        """Let the build run on `account`."""
        self.account = account
        self._begun.set()
        self.moved()


class _Served:
    """When each network and repository last had a turn: a number that grows; 0 if not or long ago."""

    def __init__(self) -> None:
        self._turns = OrderedDict[Hashable, int]()
        self._number = 0

    def note(self, *keys: Hashable) -> None:
        self._number += 1
        for key in keys:
            self._turns[key] = self._number
            self._turns.move_to_end(key)
        while len(self._turns) > _REMEMBERED:
            self._turns.popitem(last=False)

    def last(self, key: Hashable) -> int:
        return self._turns.get(key, 0)


class Turns:
    """All builds of this process that run or wait."""

    def __init__(self, shares: BuildShares) -> None:
        self._shares = shares
        self._waiting: dict[Turn, None] = {}
        self._running: set[Turn] = set()
        self._served = _Served()

    def ask(self, turn: Turn, asker: Asker) -> None:
        """Ask for a slot for the build of `turn`, also if others have asked for it; it may begin at once.

        Raises QuotaExceeded if it would have to wait and too many builds wait already.
        """
        new = turn.waits and turn not in self._waiting
        turn.askers[asker] += 1
        if turn.waits:
            self._waiting[turn] = None
            self._advance()
        if new and turn.waits and (refusal := self._refusal(asker)):
            self.end(turn)
            raise refusal

    def withdraw(self, turn: Turn, asker: Asker) -> None:
        """Take back what `asker` asked for; a build that runs stays on its account."""
        turn.askers -= Counter([asker])
        if turn.waits:
            self._advance()

    def end(self, turn: Turn) -> None:
        """Forget a build that has ended, or that left the queue."""
        self._waiting.pop(turn, None)
        self._running.discard(turn)
        self._advance()

    def _refusal(self, asker: Asker) -> QuotaExceeded | None:
        most = self._shares.waiting
        if len(self._waiting) > most:
            return QuotaExceeded("Too many builds are waiting on this service.", _AGAIN)
        own = sum(any(each.network == asker.network for each in turn.askers) for turn in self._waiting)
        if asker != IN_ADVANCE and own > max(1, most // _NETWORK_PART):
            return QuotaExceeded("Too many builds that your network asked for are waiting.", _AGAIN)
        return None

    def _advance(self) -> None:
        """Begin all builds for which there is a slot, and tell the others their positions."""
        while len(self._running) < self._shares.concurrent:
            fitting = ((turn, asker) for turn, asker in self._order() if self._fits(asker))
            turn, asker = next(fitting, (None, IN_ADVANCE))
            if turn is None:
                break
            del self._waiting[turn]
            self._running.add(turn)
            self._served.note(asker.network, asker)
            turn.begin(asker)
        for position, turn in enumerate(dict.fromkeys(turn for turn, _ in self._order()), start=1):
            if turn.position != position:
                turn.position = position
                turn.moved()
        BUILDS_IN_PROGRESS.set(len(self._running))
        binderhub_metrics.BUILDS_IN_PROGRESS.set(len(self._running))
        BUILDS_WAITING.set(len(self._waiting))

    def _fits(self, asker: Asker) -> bool:
        """Return whether a build may begin on the account of `asker` by the limits of its network and repository."""
        if asker == IN_ADVANCE:
            return True
        accounts = [turn.account for turn in self._running if turn.account is not None]
        network = sum(each.network == asker.network for each in accounts)
        repository = sum(each.repository == asker.repository for each in accounts)
        return network < self._shares.per_network and repository < self._shares.per_repository

    def _order(self) -> list[tuple[Turn, Asker]]:
        """Return who is next: each waiting build, with each that asked for it, by rounds."""
        asked: defaultdict[str, defaultdict[Asker, list[tuple[int, Turn]]]] = defaultdict(lambda: defaultdict(list))
        for arrival, turn in enumerate(self._waiting):
            for asker in turn.askers:
                asked[asker.network][asker].append((arrival, turn))
        rounds = []
        for network, repositories in asked.items():
            own = [
                (round_, self._served.last(asker), arrival, turn, asker)
                for asker, turns in repositories.items()
                for round_, (arrival, turn) in enumerate(turns)
            ]
            own.sort(key=lambda each: each[:3])
            last = self._served.last(network)
            rounds += [(number, last, arrival, turn, asker) for number, (_, _, arrival, turn, asker) in enumerate(own)]
        rounds.sort(key=lambda each: each[:3])
        return [(turn, asker) for _, _, _, turn, asker in rounds]
