"""Rules for people with a login: by name, by group, a limit for each person, and what a login may gain."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pangeo_binder.errors import PolicyInvalid, QuotaExceeded
from pangeo_binder.model import ContainerImage, Launch, Repo, RepoRef
from pangeo_binder.names import new_launch_id, server_name
from pangeo_binder.policy.load import load_policy
from pangeo_binder.policy.match import Question, gains_by_login, match, terms
from pangeo_binder.policy.model import Policy, Rule

from .conftest import EXAMPLE, admit

STAFF = '  - {name: staff, repo: "*", group: "ocean-*", tier: pangeo, per_user: 2}\n'
TEXT = EXAMPLE.replace('  - {repo: "*", user: logged-in', STAFF + '  - {repo: "*", user: logged-in')
QUESTION = Question(RepoRef("gh", "https://github.com/sea/ice", "main"), network="192.0.2.1")


@pytest.fixture
def staffed(policy_file: Callable[[str], Path]) -> Policy:
    return load_policy(policy_file(TEXT))


@pytest.mark.parametrize(
    ("user", "groups", "rule"),
    [
        ("ada", ("ocean-staff",), "staff"),
        ("ada", ("land", "ocean-"), "staff"),
        ("ada", ("an-ocean-", "Ocean-staff"), None),
        ("ada", (), None),
        (None, ("ocean-staff",), None),
    ],
)
def test_a_rule_for_a_group_is_for_its_members(
    staffed: Policy, user: str | None, groups: tuple[str, ...], rule: str | None
) -> None:
    answer = match(staffed, replace(QUESTION, user=user, groups=groups))
    assert (answer.rule == "staff") is (rule == "staff")
    assert ("group ocean-*" in answer.reason) is (rule == "staff")


def test_a_group_that_is_no_pattern_is_that_group_alone(policy_file: Callable[[str], Path]) -> None:
    policy = load_policy(policy_file(TEXT.replace("ocean-*", "sea[ab]")))
    for group, own in (("sea[ab]", True), ("seaa", False)):
        answer = match(policy, replace(QUESTION, user="ada", groups=(group,)))
        assert (answer.rule == "staff") is own


def _running(policy: Policy, question: Question) -> Launch:
    id_, grant = new_launch_id(), terms(policy, question).grant
    environment = ContainerImage("e", "registry.example/e@sha256:0")
    return Launch(id_, question.user or "", server_name("ice", id_), Repo(question.repo, "a" * 40), environment, grant)


def test_a_person_has_as_many_servers_as_the_rule_says(staffed: Policy) -> None:
    ada, eve = (replace(QUESTION, user=user, groups=("ocean-staff",)) for user in ("ada", "eve"))
    running = [_running(staffed, ada), _running(staffed, ada)]
    with pytest.raises(QuotaExceeded, match="All 2 seats that you may have are taken"):
        admit(staffed, ada, running)
    assert admit(staffed, eve, running).rule == "staff"


@pytest.mark.parametrize(
    "rule",
    ['{repo: "*", per_user: 1, tier: anonymous}', '{repo: "*", group: "", tier: pangeo}'],
)
def test_a_rule_that_names_nobody_is_refused(policy_file: Callable[[str], Path], rule: str) -> None:
    with pytest.raises(PolicyInvalid, match=r"per_user|`group` is"):
        load_policy(policy_file(EXAMPLE.replace('  - {repo: "*", user: logged-in, tier: pangeo}', f"  - {rule}")))


def test_only_people_without_a_login_gain_by_one(staffed: Policy, policy_file: Callable[[str], Path]) -> None:
    assert gains_by_login(staffed, QUESTION)
    assert not gains_by_login(staffed, replace(QUESTION, user="ada"))
    lines = [text for text in TEXT.splitlines(keepends=True) if "logged-in" not in text and "ocean" not in text]
    assert not gains_by_login(load_policy(policy_file("".join(lines))), QUESTION)


def test_a_repository_with_a_better_rule_for_everybody_gains_nothing(staffed: Policy) -> None:
    gallery = replace(QUESTION, repo=RepoRef("gh", "https://github.com/pangeo-gallery/sst", "main"))
    assert not gains_by_login(staffed, gallery)


def test_a_rule_without_a_group_keeps_its_identity_of_earlier_versions() -> None:
    rule = {"repo": "gh/sea/ice", "user": "Ada", "tier": "pangeo"}
    assert Rule.model_validate(rule).content == "sha256:bf67416e58439b54"
    assert Rule.model_validate(rule | {"group": "staff"}).content != Rule.model_validate(rule).content
