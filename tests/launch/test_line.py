"""The line: first come, first served, one per repository, and gone with the last who stands in it."""

from __future__ import annotations

import pytest

from pangeo_binder.launch.line import Line


def test_places_fall_as_others_leave() -> None:
    line = Line(60)
    first, second, third = (line.join("sea") for _ in range(3))
    spots = [standing.__enter__() for standing in (first, second, third)]
    assert [spot.place for spot in spots] == [1, 2, 3]
    second.__exit__(None, None, None)
    assert [spots[0].place, spots[2].place] == [1, 2]
    first.__exit__(None, None, None)
    assert spots[2].place == 1
    third.__exit__(None, None, None)


def test_repositories_have_lines_of_their_own() -> None:
    line = Line(60)
    with line.join("sea") as sea, line.join("ice") as ice:
        assert (sea.place, ice.place) == (1, 1)


def test_who_is_thrown_out_leaves_no_gap() -> None:
    line = Line(60)
    with line.join("sea") as first:
        with pytest.raises(RuntimeError), line.join("sea"):
            raise RuntimeError
        with line.join("sea") as next_:
            assert (first.place, next_.place) == (1, 2)


def test_an_empty_line_is_forgotten() -> None:
    line = Line(60)
    with line.join("sea"):
        pass
    with line.join("sea") as spot:
        assert spot.place == 1
    assert not line._lines
