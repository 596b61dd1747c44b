"""A ticket is valid only unchanged, for one server, once, for minutes, and has no secret in it."""

from __future__ import annotations

import base64
import zlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pangeo_binder.errors import TicketExpired, TicketInvalid, TicketUsed
from pangeo_binder.model import Launch
from pangeo_binder.ticket import TICKET_SECONDS, TicketVerifier, read, server_token, sign

OLD, NEW = "old-key-0123456789", "new-key-0123456789"
NOW = 1_800_000_000.0
_BASE64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


@pytest.fixture
def verifier() -> TicketVerifier:
    """The hub's verifier, started a minute ago."""
    return TicketVerifier([NEW, OLD], started=NOW - 60)


def test_a_valid_ticket_is_accepted(launch: Launch, verifier: TicketVerifier) -> None:
    verified = verifier.verify(sign(launch, [NEW], NOW), launch.user, launch.server, NOW + 5)
    assert verified.launch == launch
    assert verified.server_token == server_token(NEW, launch.id)


def test_a_change_of_any_character_is_refused(launch: Launch, verifier: TicketVerifier) -> None:
    ticket = sign(launch, [NEW], NOW)
    for position, char in enumerate(ticket):
        # the highest of a character's six bits is always significant; the lowest bits of the last may be padding
        other = _BASE64[(_BASE64.index(char) + 32) % 64] if char in _BASE64 else "A"
        with pytest.raises(TicketInvalid):
            verifier.verify(ticket[:position] + other + ticket[position + 1 :], launch.user, launch.server, NOW)
    assert verifier.verify(ticket, launch.user, launch.server, NOW), "a refused ticket is not marked as used"


@given(st.text(max_size=200))
def test_arbitrary_text_is_refused(text: str) -> None:
    with pytest.raises(TicketInvalid):
        TicketVerifier([NEW], started=NOW).verify(text, "u", "", NOW)


def test_a_shortened_or_lengthened_ticket_is_refused(launch: Launch, verifier: TicketVerifier) -> None:
    ticket = sign(launch, [NEW], NOW)
    for changed in (ticket[:-1], ticket[1:], ticket + "A", "." + ticket, ticket.rpartition(".")[0], ""):
        with pytest.raises(TicketInvalid):
            verifier.verify(changed, launch.user, launch.server, NOW)


@pytest.mark.parametrize(("user", "server"), [("eve", ""), ("repo-abcdefghijk1", "second"), ("", "")])
def test_a_ticket_for_another_server_is_refused(
    launch: Launch, verifier: TicketVerifier, user: str, server: str
) -> None:
    ticket = sign(launch, [NEW], NOW)
    with pytest.raises(TicketInvalid, match="another server"):
        verifier.verify(ticket, user, server, NOW)
    assert verifier.verify(ticket, launch.user, launch.server, NOW)


def test_a_ticket_is_accepted_once(launch: Launch, verifier: TicketVerifier) -> None:
    ticket, again = sign(launch, [NEW], NOW), sign(launch, [NEW], NOW + 1)
    verifier.verify(ticket, launch.user, launch.server, NOW + 1)
    for each in (ticket, again):
        with pytest.raises(TicketUsed):
            verifier.verify(each, launch.user, launch.server, NOW + TICKET_SECONDS)


def test_a_used_ticket_is_remembered_until_it_expires(launch: Launch, verifier: TicketVerifier) -> None:
    ticket = sign(launch, [NEW], NOW)
    verifier.verify(ticket, launch.user, launch.server, NOW)
    for second in range(0, TICKET_SECONDS + 60, 20):
        other = replace(launch, id=f"other{second:07}")
        verifier.verify(sign(other, [NEW], NOW + second), other.user, other.server, NOW + second)
        with pytest.raises((TicketUsed, TicketExpired)):
            verifier.verify(ticket, launch.user, launch.server, NOW + second)


@pytest.mark.parametrize("age", [TICKET_SECONDS + 1, 86400, -10])
def test_an_old_or_future_ticket_is_refused(launch: Launch, age: float) -> None:
    verifier = TicketVerifier([NEW], started=0)
    with pytest.raises(TicketExpired):
        verifier.verify(sign(launch, [NEW], NOW), launch.user, launch.server, NOW + age)
    assert verifier.verify(sign(launch, [NEW], NOW), launch.user, launch.server, NOW + TICKET_SECONDS)


def test_a_ticket_from_before_the_hub_started_is_refused(launch: Launch, verifier: TicketVerifier) -> None:
    with pytest.raises(TicketExpired, match="or than the hub"):
        verifier.verify(sign(launch, [NEW], NOW - 61), launch.user, launch.server, NOW)


def test_keys_rotate(launch: Launch, verifier: TicketVerifier) -> None:
    verified = verifier.verify(sign(launch, [OLD], NOW), launch.user, launch.server, NOW)
    assert verified.server_token == server_token(OLD, launch.id) != server_token(NEW, launch.id)
    with pytest.raises(TicketInvalid):
        TicketVerifier([NEW], NOW).verify(sign(launch, [OLD], NOW), launch.user, launch.server, NOW)
    with pytest.raises(TicketInvalid):
        verifier.verify(sign(launch, ["guessed"], NOW), launch.user, launch.server, NOW)


def test_the_first_key_signs(launch: Launch) -> None:
    assert read(sign(launch, [NEW, OLD], NOW), [NEW]) == launch
    with pytest.raises(TicketInvalid):
        read(sign(launch, [NEW, OLD], NOW), [OLD])


def test_reading_a_ticket_does_not_use_it_up(launch: Launch, verifier: TicketVerifier) -> None:
    ticket = sign(launch, [NEW], NOW)
    assert read(ticket, [OLD, NEW]) == read(ticket, [NEW]) == launch
    assert verifier.verify(ticket, launch.user, launch.server, NOW)


def test_a_ticket_has_no_secret_in_it(launch: Launch, verifier: TicketVerifier) -> None:
    ticket = sign(launch, [NEW], NOW)
    body = ticket.rpartition(".")[0]
    raw = base64.urlsafe_b64decode(body.lstrip(".") + "==")
    text = (zlib.decompress(raw) if body.startswith(".") else raw).decode()
    assert launch.id in text
    for secret in (NEW, server_token(NEW, launch.id)):
        assert secret not in text and secret not in ticket
    assert server_token(NEW, launch.id) not in repr(verifier.verify(ticket, launch.user, launch.server, NOW))
