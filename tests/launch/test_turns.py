"""Whose build is next: networks and repositories take turns, have limits, and the queue has an end."""

from __future__ import annotations

from typing import Any

import pytest

from pangeo_binder.errors import QuotaExceeded
from pangeo_binder.launch.turns import IN_ADVANCE, Asker, BuildShares, Turn, Turns


class Slots:
    """The builds of one binder, by name; each is of a repository of its own unless said otherwise."""

    def __init__(self, **shares: Any) -> None:
        self.turns = Turns(BuildShares(**shares))
        self.asked: dict[str, Turn] = {}
        self.moves: dict[str, list[int]] = {}

    def ask(self, name: str, network: str = "a", repository: str = "") -> None:
        turn = self.asked[name] = self.asked.get(name) or Turn(lambda: self._moved(name))
        self.moves.setdefault(name, [])
        self.turns.ask(turn, Asker(network, repository or name) if network else IN_ADVANCE)

    def _moved(self, name: str) -> None:
        self.moves[name].append(self.asked[name].position)

    def end(self, name: str) -> None:
        self.turns.end(self.asked.pop(name))

    @property
    def running(self) -> list[str]:
        return sorted(name for name, turn in self.asked.items() if not turn.waits)

    def positions(self) -> dict[str, int]:
        return {name: turn.position for name, turn in self.asked.items() if turn.waits}


def test_builds_of_one_repository_run_in_the_order_in_which_they_were_asked_for() -> None:
    slots = Slots(concurrent=1)
    for name in ("first", "second", "third"):
        slots.ask(name, repository="sea")
    assert slots.running == ["first"] and slots.positions() == {"second": 1, "third": 2}
    slots.end("first")
    assert slots.running == ["second"] and slots.positions() == {"third": 1}
    assert slots.moves["third"] == [2, 1]


def test_a_network_with_one_build_comes_before_one_with_ten() -> None:
    slots = Slots(concurrent=1)
    for number in range(10):
        slots.ask(f"many {number}", "a")
    slots.ask("one", "b")
    assert slots.positions()["one"] == 1
    slots.end("many 0")
    assert slots.running == ["one"]
    slots.end("one")
    slots.ask("one more", "b")
    assert slots.running == ["many 1"] and slots.positions()["one more"] == 1, "they take turns"


def test_a_network_that_left_the_queue_is_not_new_when_it_comes_back() -> None:
    slots = Slots(concurrent=1)
    slots.ask("a 1", "a")
    slots.ask("b 1", "b")
    slots.end("a 1")
    slots.ask("c 1", "c")
    slots.ask("a 2", "a")
    assert slots.running == ["b 1"] and slots.positions() == {"c 1": 1, "a 2": 2}


def test_repositories_of_one_network_take_turns() -> None:
    slots = Slots(concurrent=1)
    for number in range(3):
        slots.ask(f"sea {number}", repository="sea")
    slots.ask("ice", repository="ice")
    assert slots.positions() == {"ice": 1, "sea 1": 2, "sea 2": 3}


def test_a_network_has_at_most_its_slots() -> None:
    slots = Slots(concurrent=3, per_network=2)
    for name in ("first", "second", "third"):
        slots.ask(name, "a")
    assert slots.running == ["first", "second"]
    slots.ask("other", "b")
    assert slots.running == ["first", "other", "second"]
    slots.end("first")
    assert slots.running == ["other", "second", "third"]


def test_a_repository_has_at_most_its_slots() -> None:
    slots = Slots(concurrent=3, per_repository=1)
    slots.ask("first", "a", "sea")
    slots.ask("second", "b", "sea")
    slots.ask("other", "b", "ice")
    assert slots.running == ["first", "other"] and slots.positions() == {"second": 1}
    slots.end("first")
    assert slots.running == ["other", "second"]


def test_a_build_that_two_networks_ask_for_runs_on_the_account_of_one_that_has_a_slot() -> None:
    slots = Slots(concurrent=2, per_network=1)
    slots.ask("first", "a")
    slots.ask("shared", "a")
    assert slots.running == ["first"]
    slots.ask("shared", "b")
    assert slots.running == ["first", "shared"] and slots.asked["shared"].account == Asker("b", "shared")
    slots.ask("another", "b")
    slots.turns.withdraw(slots.asked["shared"], Asker("b", "shared"))
    assert slots.running == ["first", "shared"], "it counts for b until it ends"
    slots.end("shared")
    assert slots.running == ["another", "first"]


def test_the_binder_itself_has_no_limit_but_the_total() -> None:
    slots = Slots(concurrent=2, per_network=1, per_repository=1)
    for name in ("example 1", "example 2", "example 3"):
        slots.ask(name, "")
    assert slots.running == ["example 1", "example 2"]


def test_a_full_queue_refuses_and_keeps_nothing_of_the_refused() -> None:
    slots = Slots(concurrent=1, waiting=2)
    for name in "abc":
        slots.ask(name, name)
    with pytest.raises(QuotaExceeded, match="Too many builds are waiting on this service"):
        slots.ask("d", "d")
    assert slots.positions() | {"d": 0} == {"b": 1, "c": 2, "d": 0}
    slots.ask("b", "d")
    slots.end("a")
    slots.ask("e", "e")
    assert slots.running == ["b"] and slots.positions()["e"] == 2


def test_one_network_cannot_fill_the_queue() -> None:
    slots = Slots(concurrent=1, waiting=20)
    for number in range(3):
        slots.ask(f"a {number}", "a")
    with pytest.raises(QuotaExceeded, match="your network"):
        slots.ask("a 3", "a")
    slots.ask("b 1", "b")
    assert slots.positions()["b 1"] == 1


def test_a_build_that_leaves_the_queue_lets_the_others_move_up() -> None:
    slots = Slots(concurrent=1)
    for name in "abc":
        slots.ask(name, name)
    slots.end("b")
    assert slots.positions() == {"c": 1}


def test_networks_that_had_a_turn_are_forgotten_some_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pangeo_binder.launch.turns._REMEMBERED", 10)
    slots = Slots(concurrent=1)
    for number in range(50):
        slots.ask("build", str(number))
        slots.end("build")
    assert len(slots.turns._served._turns) == 10 and not slots.turns._waiting and not slots.turns._running
