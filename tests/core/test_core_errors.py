"""Errors for people: their fields, their unique reasons, and their way through JupyterHub as text."""

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
def test_every_user_error_has_a_message_a_hint_and_a_status(kind: type[UserError]) -> None:
    error = kind("This went wrong.", "Do that.")
    assert (error.message, error.hint, str(error)) == ("This went wrong.", "Do that.", "This went wrong. Do that.")
    assert str(kind("This went wrong.")) == "This went wrong."
    assert 400 <= error.status < 600
    assert error.reason.islower() and error.reason.isidentifier()
    assert isinstance(error, PangeoBinderError)


def test_every_error_has_its_own_reason() -> None:
    assert len({kind.reason for kind in KINDS}) == len(KINDS)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind is not UserError])
def test_an_error_is_parsed_back_from_its_text(kind: type[UserError]) -> None:
    parsed = refusal_from(refusal_text(kind("This went wrong.", "Do\nthat.")))
    assert type(parsed) is kind
    assert (parsed.message, parsed.hint) == ("This went wrong.", "Do\nthat.")


@given(st.text())
def test_a_foreign_text_is_not_parsed_as_a_user_error(text: str) -> None:
    assert refusal_from(f"Traceback: {text}") is None


def test_an_error_with_an_unknown_reason_is_parsed_as_spawn_failed() -> None:
    parsed = refusal_from("[new_word] This went wrong.\nDo that.")
    assert type(parsed) is SpawnFailed and parsed.message == "This went wrong."
    assert refusal_from("[not_allowed]") is None
    assert isinstance(refusal_from("[not_allowed] No.\n"), NotAllowed)
