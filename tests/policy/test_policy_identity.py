"""A rule keeps its launches when it is moved, named or given other limits, so that nothing is admitted over a limit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pangeo_binder.errors import QuotaExceeded
from pangeo_binder.model import Grant, Launch, RepoRef
from pangeo_binder.policy.load import load_policy
from pangeo_binder.policy.match import Question, match
from pangeo_binder.policy.model import Policy
from tests.policy.conftest import admit

Load = Callable[[str], Policy]
LaunchWith = Callable[..., Launch]
OCEAN = Question(RepoRef("git", "https://github.com/org/ocean", "HEAD"))
ICE = Question(RepoRef("git", "https://github.com/org/ice", "HEAD"))
OTHER = Question(RepoRef("git", "https://example.org/a/b", "HEAD"))
POLICY = """\
total: {servers: 5}
tiers:
  small: {server: {cpu: 1, memory: 1G, idle: 10m, max_age: 1h}, dask: none, storage: none}
  large: {server: {cpu: 8, memory: 8G, idle: 10m, max_age: 1h}, dask: none, storage: none}
rules:
"""
UNNAMED = "  - {repo: gh/org/ocean, tier: large, servers: 2}\n"
NAMED = "  - {name: ocean, repo: gh/org/ocean, tier: large, servers: 2}\n"
ICE_RULE = "  - {repo: gh/org/ice, tier: large, servers: 1}\n"
DEFAULT = '  - {repo: "*", tier: small, servers: 4}\n'


@pytest.fixture
def load(policy_file: Callable[[str], Path]) -> Load:
    """Load a policy with these rules."""
    return lambda rules: load_policy(policy_file(POLICY + rules))


def full(policy: Policy, question: Question, running: list[Launch]) -> bool:
    try:
        admit(policy, question, running)
    except QuotaExceeded:
        return True
    return False


def running(policy: Policy, question: Question, launch_with: LaunchWith, count: int = 2) -> list[Launch]:
    return [launch_with(admit(policy, question, ())) for _ in range(count)]


@pytest.mark.parametrize("rule", [UNNAMED, NAMED])
@pytest.mark.parametrize(
    "after",
    [
        ICE_RULE + "RULE" + DEFAULT,
        "  - {repo: gh/org/x, deny: No.}\n" + ICE_RULE + "RULE" + DEFAULT,
        "RULE" + ICE_RULE + DEFAULT,
        "RULE" + DEFAULT,
    ],
    ids=["inserted before", "two inserted", "inserted after", "unchanged"],
)
def test_a_full_rule_stays_full_wherever_it_stands(load: Load, launch_with: LaunchWith, rule: str, after: str) -> None:
    launches = running(load(rule + DEFAULT), OCEAN, launch_with)
    policy = load(after.replace("RULE", rule))
    assert full(policy, OCEAN, launches)
    assert not full(policy, OCEAN, launches[1:])
    if "ice" in after:
        assert not full(policy, ICE, launches), "what runs for one rule is not counted for the one in its old position"


def test_two_full_rules_that_change_places_stay_full(load: Load, launch_with: LaunchWith) -> None:
    before = load(UNNAMED + ICE_RULE + DEFAULT)
    launches = running(before, OCEAN, launch_with) + running(before, ICE, launch_with, 1)
    after = load(ICE_RULE + UNNAMED + DEFAULT)
    assert full(after, OCEAN, launches) and full(after, ICE, launches)


@pytest.mark.parametrize("rule", [UNNAMED, NAMED])
def test_an_edited_limit_counts_the_launches_that_run(load: Load, launch_with: LaunchWith, rule: str) -> None:
    launches = running(load(rule + DEFAULT), OCEAN, launch_with)
    assert full(load(rule.replace("servers: 2", "servers: 1") + DEFAULT), OCEAN, launches)
    assert full(load(rule.replace("servers: 2", "servers: 2, per_network: 2") + DEFAULT), OCEAN, launches)
    assert not full(load(rule.replace("servers: 2", "servers: 3") + DEFAULT), OCEAN, launches)


@pytest.mark.parametrize(
    ("old", "new"), [("gh/org/ocean", "[gh/org/ocean, gh/org/sea]"), ("tier: large", "tier: small")]
)
def test_a_named_rule_counts_its_launches_whatever_else_is_edited(
    load: Load, launch_with: LaunchWith, old: str, new: str
) -> None:
    launches = running(load(NAMED + DEFAULT), OCEAN, launch_with)
    assert full(load(NAMED.replace(old, new) + DEFAULT), OCEAN, launches)
    unnamed = running(load(UNNAMED + DEFAULT), OCEAN, launch_with)
    assert not full(load(UNNAMED.replace(old, new) + DEFAULT), OCEAN, unnamed), "without a name it is another rule"


def test_a_rule_that_gets_a_name_keeps_its_launches(load: Load, launch_with: LaunchWith) -> None:
    launches = running(load(UNNAMED + DEFAULT), OCEAN, launch_with)
    assert full(load(NAMED + DEFAULT), OCEAN, launches)


@pytest.mark.parametrize("rule", [UNNAMED, NAMED])
def test_launches_of_a_removed_rule_count_for_the_total_only(load: Load, launch_with: LaunchWith, rule: str) -> None:
    launches = running(load(rule + DEFAULT), OCEAN, launch_with)
    policy = load(DEFAULT)
    assert policy.rule_number(launches[0].grant.rule) is None
    others = running(policy, OTHER, launch_with, 3)
    assert not full(policy, OTHER, launches + others[1:])
    assert full(policy, OTHER, launches + others), "2 + 3 are the total of 5, and the rule's own 4 are not reached"


def test_an_identity_does_not_depend_on_how_a_rule_is_written(load: Load) -> None:
    written = load("  - {repo: [gh/org/ocean, gl/org/ocean], tier: large}\n" + DEFAULT).rules[0]
    other = load('  - {tier: large, repo: ["git/https://gitlab.com/Org/ocean.git", gh/Org/Ocean]}\n' + DEFAULT).rules[0]
    assert written.identity == other.identity
    assert isinstance(match(load(UNNAMED + DEFAULT), OCEAN), Grant)


def test_rules_that_say_different_things_have_different_identities(policy: Policy) -> None:
    assert len({rule.identity for rule in policy.rules}) == len(policy.rules)
