"""Test the limits: networks, rates, build tokens, other sites."""

from __future__ import annotations

import pytest

from pangeo_binder.errors import NotAllowed, QuotaExceeded
from pangeo_binder.web.limits import Caller, LimitChecker, Limits, RateLimiter, network_of

HERE = Caller("192.0.2.1")


def limits_with(**changes: object) -> LimitChecker:
    return LimitChecker(Limits(build_token_key="key", **changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", "unknown"),
        ("not an address", "unknown"),
    ],
)
def test_network_of(address: str, network: str) -> None:
    assert network_of(address) == network


def test_the_rate_limit_is_per_network_and_per_window() -> None:
    limiter = RateLimiter(2, 60)
    for _ in range(2):
        limiter.take("a", 100)
    with pytest.raises(QuotaExceeded, match="try again in 1 min"):
        limiter.take("a", 101)
    limiter.take("b", 101)
    limiter.take("a", 121)


def test_without_a_rate_limit_all_launches_pass() -> None:
    limiter = RateLimiter(0, 60)
    for _ in range(100):
        limiter.take("a", 0)


def test_a_build_token_is_valid_for_its_own_link_only() -> None:
    limits = limits_with()
    token = limits.issue("git", "spec/main")
    assert limits.verify(token, "git", "spec/main")
    assert not limits.verify(token, "git", "spec/other")
    assert not limits.verify(token, "gh", "spec/main")
    assert not limits.verify(token + "x", "git", "spec/main")
    assert not limits.verify("", "git", "spec/main")
    assert not LimitChecker(Limits(build_token_key="another")).verify(token, "git", "spec/main")


def test_a_build_token_expires() -> None:
    limits = limits_with(build_token_seconds=-1)
    assert not limits.verify(limits.issue("git", "spec"), "git", "spec")


def test_a_required_token_cannot_be_left_out() -> None:
    limits = limits_with(require_build_token=True)
    limits.check_launch(HERE, proven=True, now=0)
    with pytest.raises(NotAllowed):
        limits.check_launch(HERE, proven=False, now=0)


def test_launches_with_a_token_do_not_count_against_the_rate() -> None:
    limits = limits_with(rate_limit=1)
    for _ in range(5):
        limits.check_launch(HERE, proven=True, now=0)
    limits.check_launch(HERE, proven=False, now=0)
    with pytest.raises(QuotaExceeded):
        limits.check_launch(HERE, proven=False, now=0)


@pytest.mark.parametrize("address", ["192.0.2.9", "::ffff:192.0.2.9", "2001:db8::1"])
def test_banned_networks_are_refused_even_with_a_token(address: str) -> None:
    limits = limits_with(banned_networks=("192.0.2.0/28", "2001:db8::/32"))
    with pytest.raises(NotAllowed):
        limits.check_launch(Caller(address), proven=True, now=0)
    limits.check_launch(Caller("192.0.2.16"), proven=True, now=0)


def test_a_banned_network_must_be_valid() -> None:
    with pytest.raises(ValueError, match="not a network"):
        limits_with(banned_networks=("not a network",))


@pytest.mark.parametrize(
    ("allowed", "origin", "passes"),
    [
        ("", "https://a.example", False),
        ("https://b.example", "https://a.example", False),
        ("https://a.example", "https://a.example", True),
        ("https://b.example https://a.example", "https://a.example", True),
        ("https://b.example https://a.example", "https://b.example https://a.example", False),
        ("https://a.example.org", "https://a.example", False),
        ("*", "https://a.example", True),
        ("*", "", False),
    ],
)
def test_other_sites_launch_only_if_allowed(allowed: str, origin: str, passes: bool) -> None:
    limits = limits_with(cors_allow_origin=allowed)
    caller = Caller("192.0.2.1", origin, cross_site=True)
    if passes:
        limits.check_launch(caller, proven=False, now=0)
    else:
        with pytest.raises(NotAllowed):
            limits.check_launch(caller, proven=True, now=0)
