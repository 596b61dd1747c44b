"""The decision: which rule matches, what it grants, and what is refused once it is taken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pangeo_binder.errors import NotAllowed, QuotaExceeded
from pangeo_binder.model import CatalogueEntry, ContainerImage, Grant, Launch, Repo, RepoRef
from pangeo_binder.policy.load import default_policy
from pangeo_binder.policy.match import Denial, Question, match
from pangeo_binder.policy.model import Policy
from tests.policy.conftest import admit

NETWORK = "203.0.113.1"


def ask(url: str, user: str | None = None, network: str = NETWORK) -> Question:
    return Question(RepoRef("git", url, "HEAD"), user, network)


GALLERY = ask("https://github.com/pangeo-gallery/ocean")
ANYBODY = ask("https://example.org/a/b")


@pytest.mark.parametrize(
    ("question", "rule", "tier"),
    [
        (GALLERY, 2, "pangeo"),
        (ask("git@gitlab.com:pangeo/course.git"), 2, "pangeo"),
        (ask("https://example.org/a/b", "ada"), 3, "pangeo"),
        (ANYBODY, 4, "anonymous"),
        (ask("/home/ada/course"), 4, "anonymous"),
    ],
)
def test_the_first_rule_that_matches_decides(policy: Policy, question: Question, rule: int, tier: str) -> None:
    answer = match(policy, question)
    assert isinstance(answer, Grant)
    assert (policy.rule_number(answer.rule), answer.tier) == (rule, tier)
    assert f"Rule {rule} (" in answer.reason and tier in answer.reason


def test_a_grant_holds_what_the_tier_says(policy: Policy) -> None:
    grant = admit(policy, GALLERY, ())
    assert (grant.server.cpu, grant.server.memory_bytes) == (2, 8 * 2**30)
    assert (grant.server.idle_seconds, grant.server.max_age_seconds) == (900, 8 * 3600)
    assert grant.dask is not None and grant.storage is not None
    assert (grant.dask.cores, grant.dask.worker_memory_bytes, grant.dask.idle_seconds) == (40, 8 * 2**30, 600)
    assert grant.dask.precreate and grant.dask.required
    assert (grant.storage.scratch_bytes, grant.storage.egress_bytes) == (50 * 2**30, 200 * 2**30)
    assert grant.storage.read[0] == CatalogueEntry("cmip6", "s3://cmip6-pds", "us-west-2", True)


def test_a_denied_repository_is_told_the_operators_sentence(policy: Policy) -> None:
    question = ask("ssh://git@github.com/CryptoKing/x", "ada")
    answer = match(policy, question)
    assert isinstance(answer, Denial)
    assert answer.reason == "Rule 1 (gh/cryptoking/*) denies this launch."
    with pytest.raises(NotAllowed, match="This repository is not allowed here") as refused:
        admit(policy, question, ())
    assert refused.value.hint


@pytest.mark.parametrize("url", ["https://git.example.org/eve/x", "https://git.example.org:8443/eve/x"])
def test_a_denied_host_is_denied_on_every_port(policy: Policy, url: str) -> None:
    deny = policy.rules[0].model_validate({"repo": "git/https://git.example.org/eve/*", "deny": "No."})
    assert isinstance(match(policy.model_copy(update={"rules": (deny, *policy.rules)}), ask(url)), Denial)
    allow = deny.model_validate({"repo": "git/https://git.example.org/eve/*", "tier": "pangeo"})
    policy = policy.model_copy(update={"rules": (allow, *policy.rules)})
    answer = match(policy, ask(url))
    assert isinstance(answer, Grant) and policy.rule_number(answer.rule) == (5 if "8443" in url else 1)


@pytest.mark.parametrize(
    ("wanted", "user", "matches"),
    [
        ("logged-in", "ada", True),
        ("logged-in", None, False),
        ("ada", "ADA", True),
        ("ada", "adam", False),
        ("*@example.org", "ada@example.org", True),
        ("*@example.org", "ada@example.org.net", False),
        ("*", None, False),
        ("a?a", "ada", False),
        ("[a]da", "ada", False),
    ],
)
def test_a_rule_for_users_is_for_those_users(policy: Policy, wanted: str, user: str | None, matches: bool) -> None:
    rule = policy.rules[0].model_validate({"repo": "*", "user": wanted, "tier": "pangeo"})
    policy = policy.model_copy(update={"rules": (rule, policy.rules[-1])})
    answer = match(policy, ask("https://example.org/a/b", user))
    assert isinstance(answer, Grant)
    assert policy.rule_number(answer.rule) == (1 if matches else 2)


def test_seats_of_a_rule_run_out(policy: Policy, launch_with: Callable[..., Launch]) -> None:
    grant = replace(admit(policy, GALLERY, ()), dask=None)
    assert admit(policy, GALLERY, [launch_with(grant)] * 2)
    with pytest.raises(QuotaExceeded, match=r"All 3 seats for gh/pangeo-gallery/\*, gl/pangeo/\* are taken\.") as full:
        admit(policy, GALLERY, [launch_with(grant)] * 3)
    assert full.value.hint
    assert admit(policy, ANYBODY, [launch_with(grant)] * 3)


def test_seats_of_a_network_run_out(policy: Policy, launch_with: Callable[..., Launch]) -> None:
    launch = launch_with(admit(policy, ANYBODY, ()), NETWORK)
    with pytest.raises(QuotaExceeded, match=r"All 2 seats of your network are taken\."):
        admit(policy, ANYBODY, [launch] * 2)
    assert admit(policy, replace(ANYBODY, network="203.0.113.2"), [launch] * 2)
    with pytest.raises(QuotaExceeded, match=r"All 4 seats for launches like this one are taken\."):
        admit(policy, replace(ANYBODY, network="203.0.113.2"), [launch] * 4)


def test_dask_cores_of_a_rule_run_out(policy: Policy, launch_with: Callable[..., Launch]) -> None:
    launch = launch_with(admit(policy, GALLERY, ()))
    assert admit(policy, GALLERY, [launch])
    with pytest.raises(QuotaExceeded, match=r"80 of the 80 Dask cores for gh/.* and this launch needs 40\."):
        admit(policy, GALLERY, [launch] * 2)


def test_the_total_holds_over_all_rules(policy: Policy, launch_with: Callable[..., Launch]) -> None:
    some = launch_with(admit(policy, ask("https://example.org/a/b", "ada"), ()))
    with pytest.raises(QuotaExceeded, match="120 of the 120 Dask cores of this service are taken"):
        admit(policy, GALLERY, [some] * 3)
    assert admit(policy, ANYBODY, [some] * 5), "a launch without Dask needs no Dask cores"
    with pytest.raises(QuotaExceeded, match=r"All 6 seats of this service are taken\."):
        admit(policy, ANYBODY, [some] * 6)


def test_a_single_repository_has_its_own_seats(policy: Policy, launch_with: Callable[..., Launch]) -> None:
    rule = policy.rules[0].model_validate({"repo": "git/https://example.org/a/b", "tier": "pangeo", "servers": 1})
    policy = policy.model_copy(update={"rules": (rule, *policy.rules)})
    with pytest.raises(QuotaExceeded, match=r"The one seat for this repository is taken\."):
        admit(policy, ANYBODY, [launch_with(admit(policy, ANYBODY, ()))])


@given(st.lists(st.sampled_from(["https://github.com/pangeo-gallery/x", "https://a.org/x", "git@gitlab.com:pangeo/x"])))
def test_no_order_of_clicks_gets_over_a_limit(urls: list[str]) -> None:
    policy, running = _small_policy(), []
    for number, url in enumerate(urls):
        try:
            grant = admit(policy, ask(url), running)
        except QuotaExceeded:
            continue
        launch_id = f"a{number:011}"
        running.append(_launch(launch_id, url, grant))
    assert len(running) <= 5
    assert sum(launch.grant.dask.cores for launch in running if launch.grant.dask) <= 12
    assert sum(policy.rule_number(launch.grant.rule) == 1 for launch in running) <= 2


def _small_policy() -> Policy:
    local = default_policy()
    total = local.total.model_validate({"servers": 5, "dask_cores": 12})
    rule = local.rules[0].model_validate({"repo": "gh/pangeo-gallery/*", "tier": "laptop", "servers": 2})
    return local.model_copy(update={"total": total, "rules": (rule, *local.rules)})


def _launch(launch_id: str, url: str, grant: Grant) -> Launch:
    repo = Repo(RepoRef("git", url, "HEAD"), "0" * 40)
    return Launch(launch_id, f"x-{launch_id}", "", repo, ContainerImage("e", "e@sha256:0"), grant, NETWORK)


def test_twenty_launches_at_once_fit_into_the_local_profile(launch_with: Callable[..., Launch]) -> None:
    policy = default_policy()
    grant = admit(policy, ANYBODY, ())
    assert grant.dask is not None and grant.dask.precreate and not grant.dask.required
    assert admit(policy, ANYBODY, [launch_with(grant)] * 19)
