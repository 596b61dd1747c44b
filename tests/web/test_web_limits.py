"""Test the limits: networks, rates, build tokens, other sites."""

from __future__ import annotations

import pytest

from pangeo_binder.errors import NotAllowed, QuotaExceeded
from pangeo_binder.web.build_token import BuildTokens
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


def test_a_build_token_is_valid_for_its_own_link_and_page_only() -> None:
    tokens = BuildTokens("key", 60)
    token = tokens.issue("git/spec/main", "binder.example")
    assert tokens.verify(token, "git/spec/main", "binder.example")
    for given, link, origin in (
        (token, "git/spec/other", "binder.example"),
        (token, "gh/spec/main", "binder.example"),
        (token, "git/spec/main", "evil.example"),
        (token + "x", "git/spec/main", "binder.example"),
        (BuildTokens("another", 60).issue("git/spec/main", "binder.example"), "git/spec/main", "binder.example"),
    ):
        with pytest.raises(NotAllowed, match="not valid for this launch"):
            tokens.verify(given, link, origin)
    assert not tokens.verify("", "git/spec/main", "binder.example")


def test_the_page_of_a_build_token_is_not_checked_if_the_operator_says_so() -> None:
    tokens = BuildTokens(b"key", 60, check_origin=False)
    assert tokens.verify(tokens.issue("git/spec", "binder.example"), "git/spec", "10.0.0.1:8080")


def test_an_expired_build_token_counts_as_none() -> None:
    tokens = BuildTokens("key", -1)
    assert not tokens.verify(tokens.issue("git/spec", "binder.example"), "git/spec", "binder.example")


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
