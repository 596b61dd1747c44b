"""Sizes and durations: what they mean, and what is none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pangeo_binder.policy.units import duration_seconds, duration_text, size_bytes, size_text


@pytest.mark.parametrize(
    ("text", "size"),
    [("8G", 8 * 2**30), ("512M", 512 * 2**20), ("1Gi", 2**30), ("1.5G", 3 * 2**29), ("0K", 0), (1024, 1024), (0, 0)],
)
def test_sizes_are_powers_of_1024(text: object, size: int) -> None:
    assert size_bytes(text) == size


@pytest.mark.parametrize(
    "text", ["8GB", "8", "8g", "G", "", " 8G", "8 G", "-1G", "1e3G", -1, 1.5, True, None, [], "٣G"]
)
def test_what_is_no_size_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="A size is a number and K, M, G or T"):
        size_bytes(text)


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("10m", 600), ("3h", 10800), ("7d", 604800), ("0s", 0)])
def test_durations_are_seconds(text: str, seconds: int) -> None:
    assert duration_seconds(text) == seconds


@pytest.mark.parametrize("text", ["10", 10, "10 m", "1.5h", "3w", "", "-1m", "1h30m", True, None, "9999999d"])
def test_what_is_no_duration_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="A duration is a whole number and s, m, h or d"):
        duration_seconds(text)


@given(st.integers(0, 10**6 - 1), st.sampled_from("smhd"))
def test_a_duration_is_told_as_it_was_meant(number: int, unit: str) -> None:
    seconds = duration_seconds(f"{number}{unit}")
    assert duration_seconds(duration_text(seconds)) == seconds


@given(st.integers(1, 1023), st.sampled_from("KMGT"))
def test_a_size_is_told_as_it_was_meant(number: int, unit: str) -> None:
    assert size_text(size_bytes(f"{number}{unit}")) == f"{number}{unit}"
