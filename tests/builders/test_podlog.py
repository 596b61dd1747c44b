"""Test that a log is read exactly once across broken connections: no line is repeated or lost."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from pangeo_binder.builders.kube.podlog import LogCursor


def line(nanosecond: int, text: str) -> bytes:
    second = datetime.fromtimestamp(1_800_000_000 + nanosecond // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    fraction = f"{nanosecond % 10**9:09}".rstrip("0")  # as Go writes it
    return f"{second}{'.' if fraction else ''}{fraction}Z {text}\n".encode()


def read(cursor: LogCursor, *chunks: bytes) -> list[str]:
    cursor.begin()
    return [line for chunk in chunks for line in cursor.feed(chunk)]


def test_a_line_cut_by_a_lost_connection_is_read_in_full():
    cursor, first, second = LogCursor(), line(1, "one"), line(2, "two")
    assert cursor.since_seconds is None
    assert read(cursor, first + second[:-2]) == ["one"]
    assert read(cursor, first, second) == ["two"]


def test_lines_with_the_same_timestamp_are_counted():
    cursor, log = LogCursor(), [line(5, "same"), line(5, "same"), line(5, "same"), line(60, "next")]
    assert read(cursor, *log[:2]) == ["same", "same"]
    assert read(cursor, *log) == ["same", "next"]
    assert read(cursor, *log) == []


def test_fractions_of_seconds_are_compared_as_numbers():
    cursor = LogCursor()
    assert read(cursor, line(100_000_000, "a"), line(120_000_000, "b")) == ["a", "b"]
    assert read(cursor, line(100_000_000, "a"), line(120_000_000, "b"), line(121_000_000, "c")) == ["c"]


def test_lines_out_of_order_in_one_connection_are_kept():
    assert read(LogCursor(), line(9, "out"), line(8, "err"), line(10, "on")) == ["out", "err", "on"]


def test_hostile_lines_are_cleaned_and_bounded():
    cursor = LogCursor()
    lines = read(cursor, line(1, "\x1b[2Jhello\r\x1b[31mworld"), b"x" * 200_000, b"y" * 200_000, b"\n", line(2, "on"))
    assert lines[0] == "world" and lines[-1] == "on" and all(len(each) <= 4096 for each in lines)
    assert read(LogCursor(), b"2026-13-45T99:99:99Z bad\nno stamp at all\n") == ["bad", "no stamp at all"]


def test_a_new_connection_starts_early_enough_for_clock_skew():
    cursor = LogCursor()
    now = datetime.now(UTC)
    read(cursor, now.strftime("%Y-%m-%dT%H:%M:%SZ one\n").encode())
    assert cursor.since_seconds is not None and cursor.since_seconds >= 300


@given(st.lists(st.integers(0, 4), max_size=30), st.lists(st.integers(0, 2000), max_size=8))
def test_each_line_is_read_once_for_any_breaks(steps: list[int], breaks: list[int]):
    moments = [sum(steps[: index + 1]) for index in range(len(steps))]
    log = b"".join(line(moment, str(index)) for index, moment in enumerate(moments))
    cursor, lines = LogCursor(), []
    for cut in [*breaks, len(log)]:
        lines += read(cursor, log[:cut])
    assert lines == [str(index) for index in range(len(steps))]
