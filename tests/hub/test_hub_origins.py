"""Which pages of other sites a session's server lets in: the arguments it starts with."""

from __future__ import annotations

import re

import pytest

from pangeo_binder.hub.spawner import LaunchSpawnerMixin

A, B = "https://a.example", "http://[::1]:8000"


def pattern(*origins: str) -> str:
    (argument,) = LaunchSpawnerMixin(allow_origins=list(origins)).origin_args()
    return argument.removeprefix("--ServerApp.allow_origin_pat=")


@pytest.mark.parametrize("origin", [A, B])
def test_the_chosen_sites_are_let_in(origin: str) -> None:
    assert re.match(pattern(A, B), origin)


@pytest.mark.parametrize("origin", ["https://a-example", f"{A}.evil.example", f"https://evil.example?{A}", "null", ""])
def test_no_other_site_is_let_in(origin: str) -> None:
    """Also with `re.match`, which older Jupyter servers use."""
    assert not re.match(pattern(A, B), origin)


def test_all_sites_or_none() -> None:
    assert LaunchSpawnerMixin().origin_args() == []
    assert LaunchSpawnerMixin(allow_origins=["*"]).origin_args() == ["--ServerApp.allow_origin=*"]
