"""The queue: first come, first served, one per repository, and gone with the last who stands in it."""

from __future__ import annotations

import pytest

from pangeo_binder.launch.queue import Queue


def test_places_fall_as_others_leave() -> None:
    queue = Queue(60)
    first, second, third = (queue.join("sea") for _ in range(3))
    spots = [waiting.__enter__() for waiting in (first, second, third)]
    assert [entry.position for entry in spots] == [1, 2, 3]
    second.__exit__(None, None, None)
    assert [spots[0].position, spots[2].position] == [1, 2]
    first.__exit__(None, None, None)
    assert spots[2].position == 1
    third.__exit__(None, None, None)


def test_repositories_have_lines_of_their_own() -> None:
    queue = Queue(60)
    with queue.join("sea") as sea, queue.join("ice") as ice:
        assert (sea.position, ice.position) == (1, 1)


def test_who_is_thrown_out_leaves_no_gap() -> None:
    queue = Queue(60)
    with queue.join("sea") as first:
        with pytest.raises(RuntimeError), queue.join("sea"):
            raise RuntimeError
        with queue.join("sea") as next_:
            assert (first.position, next_.position) == (1, 2)


def test_an_empty_line_is_forgotten() -> None:
    queue = Queue(60)
    with queue.join("sea"):
        pass
    with queue.join("sea") as entry:
        assert entry.position == 1
    assert not queue._queues
