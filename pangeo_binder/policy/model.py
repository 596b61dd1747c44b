"""The policy file as types: its keys, and what they grant. Pure; used wherever a policy is read.

Some process enforces each key here; a key that nobody enforces is refused.
Not for how the parts of a file fit together (`crosscheck`), nor for files and lines (`load`).
"""

from __future__ import annotations

import hashlib
import json
import re
from functools import cached_property
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from ..model import CatalogueEntry, DaskGrant, ServerGrant, StorageGrant
from .address import Pattern, pattern_of
from .units import duration_seconds, size_bytes

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
MIN_MEMORY_BYTES = 256 * 2**20
"""Less starts neither a notebook server nor a Dask worker: a unit was forgotten."""
MIN_WORKER_CORES = 0.1


def _name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError("A name has up to 40 small letters, digits, `-` and `_`, and begins with a letter or digit.")
    return value


def _memory(value: int) -> int:
    if value < MIN_MEMORY_BYTES:
        raise ValueError("Memory is at least 256M; was a unit forgotten?")
    return value


def _lasting(value: int) -> int:
    if value < 1:
        raise ValueError("This duration cannot be 0.")
    return value


def _none_or_keys(value: object) -> object:
    if isinstance(value, str) and value != "none":
        raise ValueError("This is either `none` or has keys below it.")
    return None if value == "none" else value


def _listed(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def _patterns(value: object) -> object:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise ValueError("`repo` is a repository pattern or a list of them.")
    return tuple(pattern_of(text) for text in texts)


Name = Annotated[str, AfterValidator(_name)]
Size = Annotated[int, BeforeValidator(size_bytes)]
Memory = Annotated[Size, AfterValidator(_memory)]
Duration = Annotated[int, BeforeValidator(duration_seconds)]
Lasting = Annotated[Duration, AfterValidator(_lasting)]
Cores = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Names = Annotated[tuple[Name, ...], BeforeValidator(_listed)]


class Part(BaseModel):
    """A part of a file: nothing unknown in it, nothing converted silently, nothing changed later."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Total(Part):
    """What all launches may use together."""

    servers: Count | None = None
    dask_cores: Cores | None = None


class Entry(Part):
    """A data set launches may read."""

    url: str
    region: str = ""
    anonymous: bool = True

    @property
    def bucket(self) -> str:
        """The bucket it is in; empty for a directory."""
        return urlsplit(self.url).netloc

    @model_validator(mode="after")
    def _check_url(self) -> Entry:
        # the storage service's own rules, checked here instead of at the first launch: storage/scope.py
        url = urlsplit(self.url)
        parts = url.path.strip("/").split("/")
        plain = self.url.isprintable() and "@" not in url.netloc and not (url.query or url.fragment)
        if url.scheme not in ("s3", "gs", "file") or not plain or bool(url.netloc) == (url.scheme == "file"):
            raise ValueError("The url begins with s3://bucket, gs://bucket or file:///directory.")
        if url.netloc in ("scratch", ".", "..") or (parts != [""] and {"", ".", ".."} & set(parts)):
            raise ValueError("The url names the bucket `scratch`, which is taken, or has an empty part, `.` or `..`.")
        return self

    def granted(self, name: str) -> CatalogueEntry:
        """Return the entry under its name."""
        return CatalogueEntry(name, self.url, self.region, self.anonymous)


class Server(Part):
    """One notebook server."""

    cpu: Cores
    memory: Memory
    idle: Lasting
    max_age: Lasting

    @model_validator(mode="after")
    def _check_times(self) -> Server:
        if self.idle > self.max_age:
            raise ValueError("`idle` is longer than `max_age`, so it would never be reached.")
        return self

    def granted(self) -> ServerGrant:
        """Return what it grants."""
        return ServerGrant(self.cpu, self.memory, self.idle, self.max_age)


class Worker(Part):
    """One Dask worker at its largest."""

    cores: Annotated[float, Field(ge=MIN_WORKER_CORES)]
    memory: Memory


class Dask(Part):
    """All Dask clusters of one launch together."""

    clusters: Count
    workers: Count
    cores: Cores
    memory: Memory
    worker: Worker
    idle: Lasting
    start: Literal["none", "try", "ready"]
    start_workers: Annotated[int, Field(ge=0)] = 0

    @property
    def fitting_workers(self) -> int:
        """How many workers one cluster can have; clusters share evenly, as `gateway.limits` does it."""
        fit = min(self.workers, int(self.cores // self.worker.cores), self.memory // self.worker.memory)
        return fit // self.clusters

    @model_validator(mode="after")
    def _check_fit(self) -> Dask:
        if self.fitting_workers < 1:
            raise ValueError(
                "No worker would ever start: `workers`, `cores` and `memory`, shared evenly by `clusters`, leave no "
                "room for one `worker` in each."
            )
        if self.start_workers > self.fitting_workers:
            raise ValueError(f"`start_workers` is more than the {self.fitting_workers} that fit into one cluster.")
        if self.start == "none" and self.start_workers:
            raise ValueError("`start_workers` needs `start: try` or `start: ready`.")
        return self

    def granted(self) -> DaskGrant:
        """Return what it grants."""
        return DaskGrant(
            clusters=self.clusters,
            workers=self.workers,
            cores=self.cores,
            memory_bytes=self.memory,
            worker_cores=self.worker.cores,
            worker_memory_bytes=self.worker.memory,
            idle_seconds=self.idle,
            start_workers=self.start_workers,
            precreate=self.start != "none",
            required=self.start == "ready",
        )


class Storage(Part):
    """What one launch may store and read."""

    scratch: Size
    keep: Duration
    read: Names = ()
    egress: Size | None = None

    def granted(self, catalogue: dict[Name, Entry]) -> StorageGrant:
        """Return what it grants, with the entries of `catalogue` it names."""
        entries = tuple(catalogue[name].granted(name) for name in self.read)
        return StorageGrant(self.scratch, self.keep, self.egress, entries)


class Tier(Part):
    """What one launch gets."""

    server: Server
    dask: Annotated[Dask | None, BeforeValidator(_none_or_keys)]
    storage: Annotated[Storage | None, BeforeValidator(_none_or_keys)]


class Rule(Part):
    """Who gets which tier, or is denied."""

    name: Name | None = None
    repo: Annotated[tuple[Pattern, ...], BeforeValidator(_patterns)]
    user: str | None = None
    group: str | None = None
    tier: str | None = None
    deny: str | None = None
    servers: Count | None = None
    per_network: Count | None = None
    per_user: Count | None = None
    dask_cores: Cores | None = None

    @property
    def is_everything(self) -> bool:
        """Whether every launch matches."""
        return not self.needs_login and any(pattern.is_everything for pattern in self.repo)

    @property
    def needs_login(self) -> bool:
        """Whether it is for people with a login only."""
        return self.user is not None or self.group is not None

    @property
    def repositories(self) -> str:
        """The patterns of the rule, for sentences."""
        return ", ".join(pattern.text for pattern in self.repo)

    @cached_property
    def content(self) -> str:
        """A hash of what the rule says: for whom it is, and what they get. No rule's name looks like it.

        The limits (`servers`, `per_network`, `per_user`, `dask_cores`) are left out: after a change of a limit, the
        launches that run already have to count for it.
        """
        patterns = sorted({str(pattern.address or pattern.text.casefold()) for pattern in self.repo})
        group = [] if self.group is None else [self.group]  # a rule without a group keeps its hash of earlier versions
        said = json.dumps([patterns, self.user and self.user.lower(), self.tier, self.deny, *group])
        return f"sha256:{hashlib.sha256(said.encode()).hexdigest()[:16]}"

    @property
    def identity(self) -> str:
        """What launches are counted by: the rule's name, or else its content, whatever its position."""
        return self.name or self.content

    @property
    def identities(self) -> tuple[str, ...]:
        """All identities under which running launches count: those from before the rule got its name, too."""
        return (self.name, self.content) if self.name else (self.content,)

    @model_validator(mode="after")
    def _check_kind(self) -> Rule:
        if (self.tier is None) == (self.deny is None):
            raise ValueError("A rule has either `tier` or `deny`.")
        if self.user is not None and not self.user.strip():
            raise ValueError("`user` is `logged-in` or a name, in which `*` stands for any text.")
        if self.group is not None and not self.group.strip():
            raise ValueError("`group` is a name of a group, in which `*` stands for any text.")
        if self.per_user is not None and not self.needs_login:
            raise ValueError("`per_user` needs `user` or `group`: launches without a login have no name to count by.")
        if self.deny is not None:
            if not self.deny.strip():
                raise ValueError("`deny` is the sentence that people are shown.")
            if (self.servers, self.per_network, self.per_user, self.dask_cores) != (None,) * 4:
                raise ValueError("A rule with `deny` lets nobody in, so it has no limits.")
        anybodys = [pattern.text for pattern in self.repo if pattern.is_any_host and not pattern.is_everything]
        if self.tier is not None and anybodys:
            raise ValueError(
                f"Anybody can host a repository that matches `{anybodys[0]}`: name the host, as in `gh/org/*`."
            )
        anybodys = [pattern.text for pattern in self.repo if pattern.is_anybodys]
        if self.tier is not None and anybodys:
            raise ValueError(
                f"Anybody can make an account that matches `{anybodys[0]}`: name the owner, as in `gh/org/*`."
            )
        return self


class Policy(Part):
    """A whole policy file."""

    total: Total = Total()
    catalogue: dict[Name, Entry] = {}
    tiers: dict[Name, Tier]
    rules: Annotated[tuple[Rule, ...], BeforeValidator(_listed), Field(min_length=1)]

    def rule_number(self, identity: str) -> int | None:
        """Return the number, from 1, of the rule for which launches with `identity` count; None if there is none."""
        found = (number for number, rule in enumerate(self.rules, 1) if identity in rule.identities)
        return next(found, None)
