"""Decides one launch: which rule matches, what it grants, and which limits it shares with other launches. Pure.

Asked by the binder before each launch, and by `explain`. Whether the limits leave room is for the hub to say, which
knows what runs. Launches are counted by the identity of the rule that let them in, which their grants carry. A launch
whose rule is no longer in the policy counts for the totals only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import assert_never

from ..errors import NotAllowed, QuotaExceeded
from ..model import Grant, Launch, RepoRef
from .address import Address, address_of
from .counters import TOTAL, Full, Limit, add, dask_cores_key, network_key, rule_key, servers_key, takes, user_key
from .model import Policy, Rule

LOGGED_IN = "logged-in"
FOREIGN = "The commit is on no branch or tag of the repository, so no rule that names the repository counts."
"""Why a commit that was searched for and not found does not count as the repository's own."""
_ASK = "If you think this is a mistake, ask the operators of this service."
_LATER = "Try again in a few minutes."


@dataclass(frozen=True, slots=True)
class Question:
    """Who asks for what, from where."""

    repo: RepoRef
    user: str | None = None
    """The login; None for somebody without one."""
    network: str = ""
    """An IPv4 address or an IPv6 /64."""
    foreign_reason: str = ""
    """Why the commit does not count as the repository's own, as a sentence; empty if it does."""
    served: str = ""
    """The address at the end of the redirects of `repo`; empty if there were none."""
    groups: tuple[str, ...] = ()
    """The groups of the login."""


@dataclass(frozen=True, slots=True)
class Denial:
    """The policy's answer if a rule denies the launch."""

    rule: str
    """The identity of the rule that matched."""
    sentence: str
    """The operator's words for the user."""
    reason: str
    """One sentence naming the rule, for `explain` and logs."""


@dataclass(frozen=True, slots=True)
class _Shared:
    """A limit that the launch shares with others, and the sentence for a person if it is reached."""

    limit: Limit
    sentence: Callable[[float], str]
    """Makes the sentence of how much is used."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What a launch is granted, if the limits it shares with other launches leave room."""

    grant: Grant
    takes: dict[str, float]
    """Amounts by counter key."""
    shared: tuple[_Shared, ...]

    @property
    def limits(self) -> tuple[Limit, ...]:
        """The limits, the narrowest first."""
        return tuple(each.limit for each in self.shared)

    def refusal(self, full: Full) -> QuotaExceeded:
        """Return the error that says which limit is reached."""
        return QuotaExceeded(self.shared[full.limit].sentence(full.used), _LATER)


def match(policy: Policy, question: Question) -> Grant | Denial:
    """Return the answer of the first rule that matches, whatever runs now."""
    number, own = _first(policy, question), replace(question, foreign_reason="", served="")
    if question == own or number == _first(policy, own):
        return _answer(policy, number)
    return _answer(
        policy, number, question.foreign_reason or f"The address leads to {question.served}; a rule has to fit both."
    )


def depends_on_provenance(policy: Policy, question: Question) -> bool:
    """Return whether the answer would be another if the commit were not the repository's own."""
    return _first(policy, question) != _first(policy, replace(question, foreign_reason="?"))


def left_to(policy: Policy, person: str, launches: Iterable[Launch]) -> list[str]:
    """Return a sentence for each rule with a limit for each person, by which one of the person's `launches` runs."""
    used = add({}, (takes(launch.grant, launch.network, person) for launch in launches))
    sentences = []
    for rule in policy.rules:
        taken = round(sum(used.get(user_key(rule_key(identity), person), 0) for identity in rule.identities))
        if rule.per_user is not None and taken:
            sentences.append(f"{taken} of the {rule.per_user} that you may have at a time {_whose(rule)}.")
    return sentences


def gains_by_login(policy: Policy, question: Question) -> bool:
    """Return whether somebody without a login might get another answer with one: by a rule that comes before theirs."""
    if question.user is not None:
        return False
    earlier = policy.rules[: _first(policy, question) - 1]
    return any(rule.needs_login and rule.tier is not None and _lets_in(rule, question) for rule in earlier)


def _first(policy: Policy, question: Question) -> int:
    """Return the number of the first rule that matches, from 1."""
    for number, rule in enumerate(policy.rules, 1):
        if _matches(rule, question):
            return number
    raise AssertionError("the last rule of a loaded policy matches everything")


def terms(policy: Policy, question: Question) -> Terms:
    """Return what `question` is granted and within which limits. Raises NotAllowed if a rule denies it."""
    answer = match(policy, question)
    match answer:
        case Denial():
            raise NotAllowed(answer.sentence, _ASK)
        case Grant():
            shared = tuple(_limits(policy, question, answer))
            return Terms(answer, takes(answer, question.network, question.user or ""), shared)
        case _:
            assert_never(answer)


def _matches(rule: Rule, question: Question) -> bool:
    by_repo = _names(rule, question) if rule.deny is not None else _lets_in(rule, question)
    return by_repo and _matches_user(rule.user, question.user) and _matches_group(rule.group, question)


def _names(rule: Rule, question: Question) -> bool:
    """Return whether the repository is named in any way: a denied host is denied on its other ports too."""
    addresses = [spelled for each in _addresses(question) for spelled in (each, each.without_port)]
    return any(pattern.matches(each) for pattern in rule.repo for each in addresses)


def _lets_in(rule: Rule, question: Question) -> bool:
    """Return whether the repository is named in every way, and what is launched is its own.

    A commit of a fork is still served by that host, so a rule for a whole host matches it too.
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
    return wanted == LOGGED_IN or _matches_text(wanted.lower(), user.lower())


def _matches_group(wanted: str | None, question: Question) -> bool:
    if wanted is None:
        return True
    return question.user is not None and any(_matches_text(wanted, group) for group in question.groups)


def _matches_text(pattern: str, text: str) -> bool:
    return fnmatchcase(text, pattern.replace("[", "[[]").replace("?", "[?]"))


def _answer(policy: Policy, number: int, why_not_another: str = "") -> Grant | Denial:
    rule = policy.rules[number - 1]
    who = "" if rule.user is None else " for logged-in users" if rule.user == LOGGED_IN else f" for {rule.user}"
    who += f" of the group {rule.group}" if rule.group is not None else ""
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


def _limits(policy: Policy, question: Question, grant: Grant) -> Iterator[_Shared]:
    """Yield what the launch shares, the narrowest first."""
    rule = next(rule for rule in policy.rules if rule.identity == grant.rule)
    whose, owners = _whose(rule), tuple(rule_key(identity) for identity in rule.identities)
    if rule.per_network is not None:
        keys = tuple(network_key(owner, question.network) for owner in owners)
        yield _seats(keys, rule.per_network, "of your network")
    if rule.per_user is not None:
        keys = tuple(user_key(owner, question.user or "") for owner in owners)
        yield _seats(keys, rule.per_user, "that you may have")
    if rule.servers is not None:
        yield _seats(tuple(map(servers_key, owners)), rule.servers, whose)
    if rule.dask_cores is not None and grant.dask is not None:
        yield _dask(tuple(map(dask_cores_key, owners)), rule.dask_cores, grant.dask.cores, whose)
    if policy.total.servers is not None:
        yield _seats((servers_key(TOTAL),), policy.total.servers, "of this service")
    if policy.total.dask_cores is not None and grant.dask is not None:
        yield _dask((dask_cores_key(TOTAL),), policy.total.dask_cores, grant.dask.cores, "of this service")


def _seats(keys: tuple[str, ...], allowed: int, whose: str) -> _Shared:
    seats = f"All {allowed} seats" if allowed > 1 else "The one seat"
    return _Shared(Limit(keys, allowed), lambda used: f"{seats} {whose} {_are(allowed)} taken.")


def _dask(keys: tuple[str, ...], allowed: float, needed: float, whose: str) -> _Shared:
    taken, needs = f"of the {allowed:g} Dask cores {whose} are taken", f"this launch needs {needed:g}"
    return _Shared(Limit(keys, allowed), lambda used: f"{used:g} {taken}, and {needs}.")


def _are(count: int) -> str:
    return "are" if count > 1 else "is"


def _whose(rule: Rule) -> str:
    """Return for whom a rule's seats are, in words that a user of a full service understands."""
    if rule.is_everything:
        return "for launches like this one"
    if not rule.needs_login and len(rule.repo) == 1 and "*" not in rule.repo[0].text:
        return "for this repository"
    return f"for {rule.repositories}"
