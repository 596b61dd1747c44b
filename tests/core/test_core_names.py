"""Names never collide, have the required length, and are valid where they are used."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jupyterhub.utils import subdomain_hook_idna

from pangeo_binder.names import LAUNCH_ID_LENGTH, environment_id, is_launch_id, new_launch_id, slug, user_name

_TEXT = st.text(max_size=80)
_DNS_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")  # RFC 1123, the form of Kubernetes names


@given(_TEXT)
def test_a_user_name_is_the_label_that_jupyterhub_makes_of_it(text: str) -> None:
    name = user_name(text, new_launch_id())
    assert _DNS_LABEL.fullmatch(name)
    assert subdomain_hook_idna(name, "binder.example.org", kind="user") == f"{name}.binder.example.org"


def test_launch_ids_never_collide_and_have_one_length() -> None:
    ids = {new_launch_id() for _ in range(20_000)}
    assert len(ids) == 20_000
    assert {len(each) for each in ids} == {LAUNCH_ID_LENGTH}
    assert all(is_launch_id(each) for each in ids)


def test_no_launch_id_is_a_prefix_of_another() -> None:
    ids = sorted(new_launch_id() for _ in range(2000))
    assert not any(after.startswith(before) for before, after in pairwise(ids))


@pytest.mark.parametrize(
    "text",
    [
        *("", "a" * (LAUNCH_ID_LENGTH - 1), "a" * (LAUNCH_ID_LENGTH + 1), "1" + "a" * (LAUNCH_ID_LENGTH - 1)),
        *("A" * LAUNCH_ID_LENGTH, "../../etc/pw", "aaaaaaaaaaa/", "aaaaaaaaaaaa\n", "aaaaaaaaaa\u04301"),
    ],
)
def test_an_invalid_launch_id_is_refused(text: str) -> None:
    assert not is_launch_id(text)


@given(_TEXT)
def test_a_slug_is_short_plain_and_never_empty(text: str) -> None:
    assert re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?", slug(text))
    assert slug(slug(text)) == slug(text)


@pytest.mark.parametrize(
    ("text", "expected"), [("Ocean Heat!", "ocean-heat"), ("", "repo"), ("海", "repo"), ("--a--b--", "a-b")]
)
def test_a_slug_resembles_the_name(text: str, expected: str) -> None:
    assert slug(text) == expected


@given(_TEXT, _TEXT)
def test_user_names_of_two_launches_never_collide(one: str, other: str) -> None:
    first, second = new_launch_id(), new_launch_id()
    assert user_name(one, first) != user_name(other, second)
    assert _DNS_LABEL.fullmatch(user_name(one, first))
    assert user_name(one, first).endswith(first)


@given(st.lists(_TEXT.filter(lambda text: "\0" not in text)), st.lists(_TEXT.filter(lambda text: "\0" not in text)))
def test_environments_are_the_same_only_for_the_same_parts(one: list[str], other: list[str]) -> None:
    assert re.fullmatch(r"[0-9a-f]{20}", environment_id(*one))
    assert (environment_id(*one) == environment_id(*other)) == ((one or [""]) == (other or [""]))


def test_an_environment_id_depends_on_the_boundaries_of_its_parts() -> None:
    assert environment_id("ab", "c") != environment_id("a", "bc")
