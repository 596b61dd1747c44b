"""What launches take of what they share, as amounts by counter, and whether one more fits. Pure.

Binder and hub count by it: the binder derives from the policy which counters limit a launch, the hub adds up what all
launches take. The keys of counters mean nothing to the hub. Not for which rule matches (`match`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from ..model import Grant, to_wire
from ..names import LAUNCH_ID

TOTAL = "total"
_MAX_KEYS = 16
MAX_RESERVATIONS = 10_000
"""More launches than this never wait for their servers at one time; the hub holds no more."""
PART_RESERVATIONS = 500
PART_BYTES = 1 << 18
"""The maximum size of one request, which the hub reads in one step of its event loop."""
_ENVELOPE_BYTES = 200
_ROUNDING = 1e-6

Key = Annotated[str, Field(min_length=1, max_length=200)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Takes = Annotated[dict[Key, Amount], Field(max_length=_MAX_KEYS)]
"""Amounts by counter key."""


@dataclass(frozen=True, slots=True)
class Limit:
    """How much may be taken of some counters together."""

    keys: Annotated[tuple[Key, ...], Field(min_length=1, max_length=4)]
    allowed: Amount


@dataclass(frozen=True, slots=True)
class Reservation:
    """What a binder asks the hub for: a seat for a launch whose server does not exist yet."""

    launch: Annotated[str, Field(pattern=LAUNCH_ID)]
    takes: Takes
    limits: Annotated[tuple[Limit, ...], Field(max_length=_MAX_KEYS)]


@dataclass(frozen=True, slots=True)
class Renewal:
    """One part of what a binder reports at intervals: the seats that its launches hold."""

    binder: Annotated[str, Field(pattern=r"^[a-z0-9]{1,40}$")]
    """The identity of the binder process, new at each start."""
    reservations: Annotated[tuple[Reservation, ...], Field(max_length=PART_RESERVATIONS)]
    last: bool = True
    """Whether the report is complete with this part."""


@dataclass(frozen=True, slots=True)
class Full:
    """The first limit that a launch would exceed."""

    limit: int
    """Its position in the list of limits, from 0."""
    used: float
    """How much is taken without the launch."""


def parts_of(binder: str, reservations: Iterable[Reservation]) -> Iterator[Renewal]:
    """Yield the report of `reservations` in parts that the hub accepts; at least one."""
    part: list[Reservation] = []
    left = PART_BYTES - _ENVELOPE_BYTES
    for each in reservations:
        size = len(json.dumps(to_wire(each))) + len(", ")
        if part and (size > left or len(part) == PART_RESERVATIONS):
            yield Renewal(binder, tuple(part), last=False)
            part, left = [], PART_BYTES - _ENVELOPE_BYTES
        part.append(each)
        left -= size
    yield Renewal(binder, tuple(part))


def servers_key(owner: str) -> str:
    """Return the counter of servers of `owner`, which is `TOTAL` or made by `rule_key`."""
    return f"{owner}/servers"


def dask_cores_key(owner: str) -> str:
    """Return the counter of granted Dask cores of `owner`."""
    return f"{owner}/dask_cores"


def network_key(owner: str, network: str) -> str:
    """Return the counter of servers of `owner` from one network."""
    return f"{owner}/network/{network}"


def user_key(owner: str, user: str) -> str:
    """Return the counter of servers of `owner` that one person has; a hash, because login names may be long."""
    return f"{owner}/user/{hashlib.sha256(user.encode()).hexdigest()[:32]}"


def rule_key(identity: str) -> str:
    """Return the owner of the counters of a rule."""
    return f"rule/{identity}"


def takes(grant: Grant, network: str, person: str = "") -> dict[str, float]:
    """Return what a launch with `grant` from `network` takes, whether it waits for its server or runs.

    `person` is a login name; empty for an anonymous launch.
    """
    rule = rule_key(grant.rule)
    taken: dict[str, float] = {servers_key(TOTAL): 1, servers_key(rule): 1, network_key(rule, network): 1}
    if person:
        taken[user_key(rule, person)] = 1
    if grant.dask is not None:
        taken |= {dask_cores_key(TOTAL): grant.dask.cores, dask_cores_key(rule): grant.dask.cores}
    return taken


def add(used: dict[str, float], taken: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Add what launches have `taken` to `used`, and return it."""
    for each in taken:
        for key, amount in each.items():
            used[key] = used.get(key, 0) + amount
    return used


def find_full(limits: Iterable[Limit], wanted: Mapping[str, float], used: Mapping[str, float]) -> Full | None:
    """Return the first of `limits` that `wanted` exceeds together with what is `used`; None if it fits."""
    for position, limit in enumerate(limits):
        before = sum(used.get(key, 0) for key in limit.keys)
        needed = sum(wanted.get(key, 0) for key in limit.keys)
        if before + needed > limit.allowed + _ROUNDING:
            return Full(position, before)
    return None
