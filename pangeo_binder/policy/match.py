"""Decides one launch: which rule matches, what it grants, and whether what already runs leaves room. Pure.

Asked by the binder before each launch, and by `explain`. What runs is given by the caller; launches are counted by the
identity of the rule that let them in, which their grants carry. A launch whose rule is no longer in the policy counts
for the totals only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import assert_never

from ..errors import NotAllowed, QuotaExceeded
from ..model import Grant, Launch, RepoRef
from .address import Address, address_of
from .model import Policy, Rule

LOGGED_IN = "logged-in"
FOREIGN = "The commit is on no branch or tag of the repository, so no rule that names the repository counts."
"""Why a commit that was looked for does not count as the repository's own."""
_ASK = "If you think this is a mistake, ask the operators of this service."
_LATER = "Try again in a few minutes."
_ROUNDING = 1e-6


@dataclass(frozen=True, slots=True)
class Question:
    """Who asks for what, from where."""

    repo: RepoRef
    user: str | None = None
    """The login; None for somebody without one."""
    network: str = ""
    """An IPv4 address or an IPv6 /64."""
    foreign_reason: str = ""
    """The sentence that says why the commit does not count as the repository's own; empty where it does."""
    served: str = ""
    """The address that redirects of `repo` led to; empty where there were none."""


@dataclass(frozen=True, slots=True)
class Denial:
    """The policy's answer where a rule denies the launch."""

    rule: str
    """The identity of the rule that matched."""
    sentence: str
    """The operator's words for the person."""
    reason: str
    """One sentence naming the rule, for `explain` and logs."""


@dataclass(frozen=True, slots=True)
class _Limit:
    """Something that is shared, and how full it is."""

    allowed: float
    used: float
    needed: float
    sentence: str

    @property
    def is_exceeded(self) -> bool:
        return self.used + self.needed > self.allowed + _ROUNDING


def match(policy: Policy, question: Question) -> Grant | Denial:
    """Return what the first rule that matches says to `question`, whatever runs now."""
    number = _first(policy, question)
    if number == _first(policy, replace(question, foreign_reason="", served="")):
        return _answer(policy, number)
    return _answer(
        policy, number, question.foreign_reason or f"The address leads to {question.served}; a rule has to fit both."
    )


def depends_on_provenance(policy: Policy, question: Question) -> bool:
    """Return whether the answer would be another if the commit were not the repository's own."""
    return _first(policy, question) != _first(policy, replace(question, foreign_reason="?"))


def _first(policy: Policy, question: Question) -> int:
    """Return the number of the first rule that matches, from 1."""
    for number, rule in enumerate(policy.rules, 1):
        if _matches(rule, question):
            return number
    raise AssertionError("the last rule of a loaded policy matches everything")


def admit(policy: Policy, question: Question, running: Sequence[Launch]) -> Grant:
    """Return what `question` is granted while `running` are there.

    Raises NotAllowed where a rule denies it, and QuotaExceeded where what it shares with others is used up.
    """
    answer = match(policy, question)
    match answer:
        case Denial():
            raise NotAllowed(answer.sentence, _ASK)
        case Grant():
            for limit in _limits(policy, question, answer, running):
                if limit.is_exceeded:
                    raise QuotaExceeded(limit.sentence, _LATER)
            return answer
        case _:
            assert_never(answer)


def _matches(rule: Rule, question: Question) -> bool:
    by_repo = _names(rule, question) if rule.deny is not None else _lets_in(rule, question)
    return by_repo and _matches_user(rule.user, question.user)


def _names(rule: Rule, question: Question) -> bool:
    """Return whether the repository is named in any way: a denied host is denied on its other ports too."""
    addresses = [spelled for each in _addresses(question) for spelled in (each, each.without_port)]
    return any(pattern.matches(each) for pattern in rule.repo for each in addresses)


def _lets_in(rule: Rule, question: Question) -> bool:
    """Return whether the repository is named in every way, and what is launched is its own.

    What a fork gave its parent's host is still of that host, so a rule for a whole host counts for it too.
    """
    patterns = [pattern for pattern in rule.repo if pattern.is_any_path or not question.foreign_reason]
    return all(any(pattern.lets_in(each) for pattern in patterns) for each in _addresses(question))


def _addresses(question: Question) -> list[Address]:
    return [address_of(url) for url in (question.repo.url, question.served) if url]


def _matches_user(wanted: str | None, user: str | None) -> bool:
    if wanted is None:
        return True
    if user is None:
        return False
    # JupyterHub makes user names lower case: Authenticator.normalize_username
    return wanted == LOGGED_IN or fnmatchcase(user.lower(), wanted.lower().replace("[", "[[]").replace("?", "[?]"))


def _answer(policy: Policy, number: int, why_not_another: str = "") -> Grant | Denial:
    rule = policy.rules[number - 1]
    who = "" if rule.user is None else " for logged-in users" if rule.user == LOGGED_IN else f" for {rule.user}"
    name = f", {rule.name}" if rule.name else ""
    whose = f"Rule {number}{name} ({rule.repositories}{who})"
    if rule.deny is not None:
        return Denial(rule.identity, rule.deny, f"{whose} denies this launch.")
    assert rule.tier is not None
    tier = policy.tiers[rule.tier]
    return Grant(
        tier=rule.tier,
        rule=rule.identity,
        reason=f"{whose} gives the tier {rule.tier}. {why_not_another}".rstrip(),
        server=tier.server.granted(),
        dask=tier.dask.granted() if tier.dask is not None else None,
        storage=tier.storage.granted(policy.catalogue) if tier.storage is not None else None,
    )


def _limits(policy: Policy, question: Question, grant: Grant, running: Sequence[Launch]) -> Iterator[_Limit]:
    """Yield what the launch shares, the narrowest first."""
    rule = next(rule for rule in policy.rules if rule.identity == grant.rule)
    whose, alike = _whose(rule), [launch for launch in running if launch.grant.rule in rule.identities]
    if rule.per_network is not None:
        near = sum(launch.network == question.network for launch in alike)
        seats = f"All {rule.per_network} seats" if rule.per_network > 1 else "The one seat"
        yield _Limit(rule.per_network, near, 1, f"{seats} of your network {_are(rule.per_network)} taken.")
    if rule.servers is not None:
        yield _servers(rule.servers, alike, whose)
    if rule.dask_cores is not None and grant.dask is not None:
        yield _dask(rule.dask_cores, alike, grant.dask.cores, whose)
    if policy.total.servers is not None:
        yield _servers(policy.total.servers, running, "of this service")
    if policy.total.dask_cores is not None and grant.dask is not None:
        yield _dask(policy.total.dask_cores, running, grant.dask.cores, "of this service")


def _servers(allowed: int, running: Sequence[Launch], whose: str) -> _Limit:
    seats = f"All {allowed} seats" if allowed > 1 else "The one seat"
    return _Limit(allowed, len(running), 1, f"{seats} {whose} {_are(allowed)} taken.")


def _dask(allowed: float, running: Sequence[Launch], needed: float, whose: str) -> _Limit:
    used = sum(launch.grant.dask.cores for launch in running if launch.grant.dask is not None)
    text = f"{used:g} of the {allowed:g} Dask cores {whose} are taken, and this launch needs {needed:g}."
    return _Limit(allowed, used, needed, text)


def _are(count: int) -> str:
    return "are" if count > 1 else "is"


def _whose(rule: Rule) -> str:
    """Return for whom a rule's seats are, as a person in front of a full service understands it."""
    if rule.is_everything:
        return "for launches like this one"
    if rule.user is None and len(rule.repo) == 1 and "*" not in rule.repo[0].text:
        return "for this repository"
    return f"for {rule.repositories}"
