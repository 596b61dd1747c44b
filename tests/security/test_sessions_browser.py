"""In one browser, a session's page against another session's: locally nothing is refused, as docs/security.md says."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from tests.stack.attacks import DONE, attack, sign_in
from tests.stack.browser import browser
from tests.stack.local import LocalStack, Session

pytestmark = [pytest.mark.stack, pytest.mark.browser, pytest.mark.timeout(300)]


def test_with_one_origin_a_session_acts_in_another(stack: LocalStack, attacker: Session, victim: Session) -> None:
    """If this fails, because something has become better, correct docs/security.md."""
    with browser() as chromium:
        assert attack(chromium, attacker, victim, stack.address) == DONE


def test_a_sessions_cookies_go_only_to_its_own_path(attacker: Session) -> None:
    with browser() as chromium, chromium.new_context() as context:
        sign_in(context.new_page(), attacker)
        held = context.cookies()
    assert {each["name"] for each in held} > {"_xsrf"}
    assert {each["path"] for each in held} == {urlsplit(attacker.url).path}
