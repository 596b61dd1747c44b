"""What a rule gives to a repository it names, no other gets: not a fork's commit, not a wiki, not by a redirect."""

from __future__ import annotations

import pytest

from pangeo_binder.model import Grant, RepoRef
from pangeo_binder.policy.load import default_policy
from pangeo_binder.policy.match import FOREIGN, Denial, Question, depends_on_provenance, match
from pangeo_binder.policy.model import Policy, Rule

GALLERY = "https://github.com/pangeo-gallery/ocean"


def with_rule(policy: Policy, **keys: object) -> Policy:
    """Return `policy` with a first rule."""
    return policy.model_copy(update={"rules": (Rule.model_validate(keys), *policy.rules)})


def rule_for(
    policy: Policy, url: str, user: str | None = None, foreign_reason: str = "", served: str = ""
) -> int | None:
    question = Question(RepoRef("git", url, "HEAD"), user, foreign_reason=foreign_reason, served=served)
    return policy.rule_number(match(policy, question).rule)


def test_a_foreign_commit_gets_what_any_repository_gets(policy: Policy) -> None:
    assert rule_for(policy, GALLERY) == 2
    answer = match(policy, Question(RepoRef("git", GALLERY, "HEAD"), foreign_reason=FOREIGN))
    assert isinstance(answer, Grant) and (answer.rule, answer.tier) == (policy.rules[3].identity, "anonymous")
    assert answer.reason == f"Rule 4 (*) gives the tier anonymous. {FOREIGN}"


def test_a_rule_for_people_counts_for_a_foreign_commit(policy: Policy) -> None:
    assert rule_for(policy, GALLERY, "ada", FOREIGN) == 3


def test_a_denial_counts_for_a_foreign_commit(policy: Policy) -> None:
    question = Question(RepoRef("git", "https://github.com/cryptoking/x", "HEAD"), foreign_reason=FOREIGN)
    answer = match(policy, question)
    assert isinstance(answer, Denial) and answer.reason == "Rule 1 (gh/cryptoking/*) denies this launch."
    assert not depends_on_provenance(policy, question)


@pytest.mark.parametrize("pattern", ["gh/*", "git/https://*.github.com/*", "*"])
def test_a_rule_for_a_whole_host_counts_for_a_foreign_commit(policy: Policy, pattern: str) -> None:
    policy = with_rule(policy, repo=pattern, tier="pangeo")
    url = "https://a.github.com/x/y" if "*." in pattern else GALLERY
    assert (rule_for(policy, url), rule_for(policy, url, foreign_reason=FOREIGN)) == (1, 1)
    assert not depends_on_provenance(policy, Question(RepoRef("git", url, "HEAD")))


@pytest.mark.parametrize(("url", "rests"), [(GALLERY, True), ("https://a.org/b", False)])
def test_only_who_is_named_has_to_be_looked_at(policy: Policy, url: str, rests: bool) -> None:
    question = Question(RepoRef("git", url, "0" * 40))
    assert depends_on_provenance(policy, question) is rests
    assert not depends_on_provenance(default_policy(), question)


@pytest.mark.parametrize(
    ("url", "served", "rule"),
    [
        (GALLERY, "https://github.com/pangeo-gallery/ocean.git/", 2),
        (GALLERY, "http://GitHub.com:80/Pangeo-Gallery/ocean/", 2),
        ("http://github.com/pangeo-gallery/ocean", GALLERY, 2),
        (GALLERY, "https://github.com/pangeo-gallery/new-name/", 2),
        (GALLERY, "https://gitlab.com/pangeo/ocean.git/", 2),
        (GALLERY, "https://github.com/mallory/ocean/", 4),
        (GALLERY, "https://evil.example.org/pangeo-gallery/ocean/", 4),
        (GALLERY, "https://github.com:8443/pangeo-gallery/ocean/", 4),
        ("https://evil.example.org/ocean", GALLERY, 4),
        (GALLERY, "https://github.com/cryptoking/ocean/", 1),
        ("https://evil.example.org/ocean", "https://github.com/cryptoking/ocean/", 1),
    ],
)
def test_a_redirect_gives_only_what_both_addresses_have(policy: Policy, url: str, served: str, rule: int) -> None:
    assert rule_for(policy, url, served=served) == rule


def test_a_redirect_that_costs_something_is_told(policy: Policy) -> None:
    led = Question(RepoRef("git", GALLERY, "HEAD"), served="https://github.com/mallory/ocean/")
    answer = match(policy, led)
    assert answer.reason.endswith("The address leads to https://github.com/mallory/ocean/; a rule has to fit both.")
    same = Question(RepoRef("git", "https://a.org/b", "HEAD"), served="https://a.org/b.git/")
    assert match(policy, same).reason == "Rule 4 (*) gives the tier anonymous."


@pytest.mark.parametrize("url", [f"{GALLERY}.wiki", f"{GALLERY}.wiki.git", f"{GALLERY}.WIKI.git/"])
def test_a_wiki_is_not_its_repository(policy: Policy, url: str) -> None:
    assert rule_for(policy, url) == 4
    assert rule_for(with_rule(policy, repo="gh/pangeo-gallery/*.wiki", tier="pangeo"), url) == 1
    assert rule_for(with_rule(policy, repo="gh/pangeo-gallery/*", deny="No."), url) == 1


@pytest.mark.parametrize(
    "url",
    [
        "https://github.com/pangeo-gallery.git/x",
        "https://github.com/pangeo-gallery@evil/x",
        "https://github.com:22/pangeo-gallery/x",
        "https://github.com.evil.org/pangeo-gallery/x",
        "https://pangeo-gallery/github.com/x",
        "ssh://github.com@evil.org/pangeo-gallery/x",
        "evil.org@example.org:github.com/pangeo-gallery/x",
        "https://gist.github.com/pangeo-gallery/x",
        "https://github.com/pangeo-gallery",
        "https://github.com/mallory/pangeo-gallery/x",
    ],
)
def test_no_other_address_is_let_in(policy: Policy, url: str) -> None:
    assert rule_for(policy, url) == 4


@pytest.mark.parametrize("pattern", ["gh/pangeo*", "gh/pangeo-*/x", "gh/*/tutorial", "gl/*-course/*"])
def test_a_tier_for_names_that_anybody_can_take_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="Anybody can make an account that matches"):
        Rule.model_validate({"repo": pattern, "tier": "pangeo"})
    Rule.model_validate({"repo": pattern, "deny": "No."})
    own_host = pattern.replace("gh/", "git/https://git.example.org/").replace("gl/", "git/https://git.example.org/")
    Rule.model_validate({"repo": own_host, "tier": "pangeo"})
