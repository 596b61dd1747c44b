"""Errors for people: what they hold, that their words are stable, and that they survive JupyterHub's texts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pangeo_binder import errors
from pangeo_binder.errors import NotAllowed, PangeoBinderError, SpawnFailed, UserError, refusal_from, refusal_text

KINDS = sorted(
    (kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, UserError)),
    key=lambda kind: kind.__name__,
)


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_for_people_has_words_and_a_status(kind: type[UserError]) -> None:
    error = kind("This went wrong.", "Do that.")
    assert (error.message, error.hint, str(error)) == ("This went wrong.", "Do that.", "This went wrong. Do that.")
    assert str(kind("This went wrong.")) == "This went wrong."
    assert 400 <= error.status < 600
    assert error.reason.islower() and error.reason.isidentifier()
    assert isinstance(error, PangeoBinderError)


def test_no_two_errors_share_a_word() -> None:
    assert len({kind.reason for kind in KINDS}) == len(KINDS)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind is not UserError])
def test_an_error_survives_being_a_text(kind: type[UserError]) -> None:
    told = refusal_from(refusal_text(kind("This went wrong.", "Do\nthat.")))
    assert type(told) is kind
    assert (told.message, told.hint) == ("This went wrong.", "Do\nthat.")


@given(st.text())
def test_a_text_of_somebody_else_is_no_error_for_people(text: str) -> None:
    assert refusal_from(f"Traceback: {text}") is None


def test_an_error_of_another_version_is_still_told() -> None:
    told = refusal_from("[new_word] This went wrong.\nDo that.")
    assert type(told) is SpawnFailed and told.message == "This went wrong."
    assert refusal_from("[not_allowed]") is None
    assert isinstance(refusal_from("[not_allowed] No.\n"), NotAllowed)
