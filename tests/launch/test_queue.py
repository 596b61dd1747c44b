"""The queue: first come, first served, one per repository, and forgotten with the last launch that waits."""

from __future__ import annotations

import pytest

from pangeo_binder.launch.queue import Queue


def test_positions_fall_as_others_leave() -> None:
    queue = Queue(60)
    first, second, third = (queue.join("sea") for _ in range(3))
    entries = [waiting.__enter__() for waiting in (first, second, third)]
    assert [entry.position for entry in entries] == [1, 2, 3]
    second.__exit__(None, None, None)
    assert [entries[0].position, entries[2].position] == [1, 2]
    first.__exit__(None, None, None)
    assert entries[2].position == 1
    third.__exit__(None, None, None)


def test_repositories_have_queues_of_their_own() -> None:
    queue = Queue(60)
    with queue.join("sea") as sea, queue.join("ice") as ice:
        assert (sea.position, ice.position) == (1, 1)


def test_a_launch_that_fails_leaves_no_gap() -> None:
    queue = Queue(60)
    with queue.join("sea") as first:
        with pytest.raises(RuntimeError), queue.join("sea"):
            raise RuntimeError
        with queue.join("sea") as next_:
            assert (first.position, next_.position) == (1, 2)


def test_an_empty_queue_is_forgotten() -> None:
    queue = Queue(60)
    with queue.join("sea"):
        pass
    with queue.join("sea") as entry:
        assert entry.position == 1
    assert not queue._queues
