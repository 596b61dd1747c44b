"""The reaper of the local profile: what it removes, and what it leaves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pangeo_binder.hub.local.launch_reaper import LaunchReaper, forget, record
from pangeo_binder.liveness import IsAlive
from pangeo_binder.local.layer import home_of


@pytest.fixture
def recorded(tmp_path: Path) -> Callable[[str, str], Path]:
    """Record a launch and make its home; returns the home."""

    def make(launch: str, owner: str) -> Path:
        for folder in ("records", "homes"):
            (tmp_path / folder).mkdir(exist_ok=True)
        record(tmp_path / "records", launch, owner)
        home = home_of(tmp_path / "homes", launch)
        home.mkdir()
        return home

    return make


def reaper(state: Path, answers: dict[str, bool | None]) -> LaunchReaper:
    async def is_alive(owner: str) -> bool | None:
        return answers[owner]

    asked: IsAlive = is_alive
    return LaunchReaper(state, state / "records", state / "homes", asked)


async def test_what_a_server_left_goes_after_two_clear_answers(
    tmp_path: Path, recorded: Callable[[str, str], Path]
) -> None:
    homes = {owner: recorded(owner.rstrip("/"), owner) for owner in ("gone/", "runs/", "unclear/")}
    reaping = reaper(tmp_path, {"gone/": False, "runs/": True, "unclear/": None})
    assert await reaping.reap() == []
    assert await reaping.reap() == ["gone"]
    assert {owner for owner, home in homes.items() if home.exists()} == {"runs/", "unclear/"}
    assert {each.name for each in (tmp_path / "records").iterdir()} == {"runs", "unclear"}
    assert await reaping.reap() == []


async def test_a_server_that_answers_again_is_kept(tmp_path: Path, recorded: Callable[[str, str], Path]) -> None:
    home, answers = recorded("one", "user/"), dict[str, bool | None](**{"user/": False})
    reaping = reaper(tmp_path, answers)
    for answer in (False, True, False):
        answers["user/"] = answer
        assert await reaping.reap() == []
    assert home.exists()


async def test_a_record_that_is_being_written_counts_for_nobody(
    tmp_path: Path, recorded: Callable[[str, str], Path]
) -> None:
    home = recorded("one", "")
    reaping = reaper(tmp_path, {})
    assert [await reaping.reap() for _ in range(3)] == [[], [], []]
    assert home.exists()


async def test_a_launch_that_ended_in_order_leaves_no_record(
    tmp_path: Path, recorded: Callable[[str, str], Path]
) -> None:
    recorded("one", "user/")
    forget(tmp_path / "records", "one")
    forget(tmp_path / "records", "one")
    assert await reaper(tmp_path, {}).reap() == []
