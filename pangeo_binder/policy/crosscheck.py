"""Checks the parts of a policy against each other: unknown names, rules that never match, limits that let nobody in.

Works on the parts that are valid by themselves, so that one mistake does not hide the others. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TypeVar

from .document import Location
from .model import Entry, Part, Rule, Tier, Total

P = TypeVar("P", bound=Part)


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem and its location."""

    location: Location
    text: str


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a policy that are valid by themselves; None stands for an invalid one."""

    total: Total
    catalogue: Mapping[str, Entry | None]
    tiers: Mapping[str, Tier | None]
    rules: tuple[Rule | None, ...]


def parts_of(data: object) -> Parts:
    """Return the parts of what a policy file holds, each validated by itself."""
    held = data if isinstance(data, dict) else {}
    rules = held.get("rules")
    return Parts(
        _part(Total, held.get("total", {})) or Total(),
        _named(Entry, held.get("catalogue")),
        _named(Tier, held.get("tiers")),
        tuple(_part(Rule, rule) for rule in rules) if isinstance(rules, list) else (),
    )


def _named(kind: type[P], held: object) -> dict[str, P | None]:
    return {str(name): _part(kind, part) for name, part in held.items()} if isinstance(held, dict) else {}


def _part(kind: type[P], held: object) -> P | None:
    try:
        return kind.model_validate(held)
    except ValueError:
        return None  # reported when the whole policy is validated


def cross_check(parts: Parts) -> Iterator[Finding]:
    """Yield what is wrong between the parts."""
    yield from _check_catalogue(parts)
    for name, tier in parts.tiers.items():
        if tier is not None:
            yield from _check_tier(parts, name, tier)
    yield from _check_order(parts)
    yield from _check_identities(parts)
    for index, rule in enumerate(parts.rules):
        if rule is not None:
            yield from _check_rule(parts, index, rule)


def _check_catalogue(parts: Parts) -> Iterator[Finding]:
    if "scratch" in parts.catalogue:
        yield Finding(("catalogue", "scratch"), "The name `scratch` is taken by each launch's own storage.")
    first: dict[str, tuple[str, Entry]] = {}
    for name, entry in parts.catalogue.items():
        if entry is None:
            continue
        bucket = entry.bucket or name
        other, held = first.setdefault(bucket, (name, entry))
        if _source(entry) != _source(held):
            text = f"`{other}` and `{name}` are served as one bucket, `{bucket}`, and disagree on where it is."
            yield Finding(("catalogue", name), text)


def _source(entry: Entry) -> tuple[str, str, bool]:
    return (entry.url.partition("://")[0] if entry.bucket else entry.url, entry.region, entry.anonymous)


def _check_tier(parts: Parts, name: str, tier: Tier) -> Iterator[Finding]:
    at: Location = ("tiers", name)
    if tier.dask is not None:
        if tier.dask.idle > tier.server.max_age:
            yield Finding((*at, "dask", "idle"), "This is longer than the server's `max_age`, so it is never reached.")
        total = parts.total.dask_cores
        if total is not None and tier.dask.cores > total:
            text = f"No launch would be let in: `total.dask_cores` is {total:g}, less than these {tier.dask.cores:g}."
            yield Finding((*at, "dask", "cores"), text)
    if tier.storage is not None:
        for index, entry in enumerate(tier.storage.read):
            if entry not in parts.catalogue:
                text = f"The catalogue has no `{entry}`.{_closest(entry, parts.catalogue)}"
                yield Finding((*at, "storage", "read", index), text)


def _check_order(parts: Parts) -> Iterator[Finding]:
    if not parts.rules:
        return
    last = parts.rules[-1]
    if last is not None and not last.is_everything:
        text = 'The last rule is the default for everybody else: it needs `repo: "*"`, no `user` and no `group`.'
        yield Finding(("rules", len(parts.rules) - 1), text)
    for index, rule in enumerate(parts.rules[:-1]):
        if rule is not None and rule.is_everything:
            text = f"This rule is never reached, because rule {index + 1} matches everything."
            yield from (Finding(("rules", after), text) for after in range(index + 1, len(parts.rules)))
            return


def _check_identities(parts: Parts) -> Iterator[Finding]:
    """Yield rules that share a name or their content: launches are counted by these, so two rules would be one."""
    names: dict[str, int] = {}
    contents: dict[str, int] = {}
    for index, rule in enumerate(parts.rules):
        if rule is None:
            continue
        if rule.name is not None and (first := names.setdefault(rule.name, index)) != index:
            yield Finding(("rules", index, "name"), f"Rule {first + 1} has the name `{rule.name}` already.")
        if (first := contents.setdefault(rule.content, index)) != index:
            same = f"rule {first + 1} has the same `repo`, `user` and `group` and comes first"
            text = f"This rule never matches, because {same}."
            yield Finding(("rules", index), text)


def _check_rule(parts: Parts, index: int, rule: Rule) -> Iterator[Finding]:
    if rule.tier is None:
        return
    if rule.tier not in parts.tiers:
        text = f"There is no tier `{rule.tier}`.{_closest(rule.tier, parts.tiers)}"
        yield Finding(("rules", index, "tier"), text)
    tier = parts.tiers.get(rule.tier)
    if tier is None or rule.dask_cores is None:
        return
    at: Location = ("rules", index, "dask_cores")
    if tier.dask is None:
        yield Finding(at, f"The tier `{rule.tier}` has no Dask to limit.")
    elif tier.dask.cores > rule.dask_cores:
        yield Finding(at, f"No launch would be let in: one of tier `{rule.tier}` needs {tier.dask.cores:g} Dask cores.")


def _closest(name: str, known: Mapping[str, object]) -> str:
    close = get_close_matches(name, known, 1)
    if close:
        return f" Did you mean `{close[0]}`?"
    return f" There is: {', '.join(known)}." if known else ""
