"""The frozen nouns that cross borders: RepoRef, Repo, Environment, Launch, Grant, Server.

Units are in the names; sizes are bytes, times are seconds, cores are whole or part CPUs. `to_wire`/`from_wire` carry a
noun through JSON. Not for decisions (`policy`) nor for texts (`events`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator, TypeAdapter
from pydantic.dataclasses import dataclass

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RepoRef:
    """A repository and ref as a link names them, checked but not looked up."""

    provider: str
    """`git` for now; the first part of a `/v2/<provider>/<spec>` link."""
    url: str
    ref: str
    """A branch, tag, commit or `HEAD`."""

    @property
    def name(self) -> str:
        """The last part of the repository's address, for titles and slugs."""
        return self.url.rstrip("/").removesuffix(".git").rsplit("/", 1)[-1].rsplit(":", 1)[-1]

    @property
    def key(self) -> str:
        """The repository as policy rules match it: `git/https://example.org/org/repo`."""
        return f"{self.provider}/{self.url}"


@dataclass(frozen=True, slots=True)
class Repo:
    """A repository at one commit: what a RepoRef resolved to."""

    ref: RepoRef
    commit: str
    """The full hexadecimal commit id."""


@dataclass(frozen=True, slots=True)
class Environment:
    """A built environment; the same repository and commit always give the same one."""

    id: str
    prefix: str
    """The virtual environment's directory, or the image reference."""
    checkout: str = ""
    """The directory holding the repository's files, copied into each launch's home; empty for images."""
    start: tuple[str, ...] = ()
    """The repository's `start` command, which is run around the server's; empty where there is none."""


@dataclass(frozen=True, slots=True)
class ServerGrant:
    """What one notebook server may use."""

    cpu: float
    memory_bytes: int
    idle_seconds: int
    """Without activity for this long it is culled."""
    max_age_seconds: int
    """It is culled at this age, active or not."""


@dataclass(frozen=True, slots=True)
class DaskGrant:
    """What the Dask clusters of one launch may use, over all of them together."""

    clusters: int
    workers: int
    cores: float
    memory_bytes: int
    worker_cores: float
    worker_memory_bytes: int
    idle_seconds: int
    start_workers: int = 0
    """How many workers the first cluster starts with."""
    precreate: bool = True
    """Whether the first cluster is made before the notebook opens (`start: try` or `ready`)."""
    required: bool = False
    """Whether the launch fails where its first cluster cannot be made (`start: ready`); else it goes on without."""


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """A data set the operator lets launches read, by name."""

    name: str
    url: str
    region: str = ""
    anonymous: bool = True


@dataclass(frozen=True, slots=True)
class StorageGrant:
    """What one launch may store and read."""

    scratch_bytes: int
    keep_seconds: int
    """How long scratch outlives the launch."""
    egress_bytes: int | None = None
    """How much may be read in all; None for no limit."""
    read: tuple[CatalogueEntry, ...] = ()


def _rule_identity(value: object) -> object:
    """Return a rule's identity; earlier versions wrote its number, which becomes a text that no rule of today has."""
    return f"#{value}" if isinstance(value, int) else value


@dataclass(frozen=True, slots=True)
class Grant:
    """The policy's answer to one launch: what it gets, and why."""

    tier: str
    rule: Annotated[str, BeforeValidator(_rule_identity)]
    """The identity of the rule that matched: its name, or a hash of what it says; never its position."""
    reason: str
    """One sentence naming the rule, for `explain`, logs and the launch page."""
    server: ServerGrant
    dask: DaskGrant | None = None
    storage: StorageGrant | None = None


@dataclass(frozen=True, slots=True)
class Launch:
    """One click: who gets what, where. This is what a ticket carries and what the server's state holds."""

    id: str
    user: str
    server: str
    """The hub's server name; empty for the default server."""
    repo: Repo
    environment: Environment
    grant: Grant
    network: str = ""
    """The client's network as rules count it (`per_network`): an IPv4 address or an IPv6 /64."""


@dataclass(frozen=True, slots=True)
class Server:
    """A server the hub says is starting or running, with the launch it belongs to."""

    launch: Launch
    ready: bool
    url: str
    started: str
    last_activity: str


_adapter: Callable[[Any], TypeAdapter[Any]] = cache(TypeAdapter)  # making one costs a millisecond


def to_wire(noun: Any) -> dict[str, Any]:
    """Return a noun of this module as what JSON can hold."""
    wire: dict[str, Any] = _adapter(type(noun)).dump_python(noun, mode="json")
    return wire


def from_wire(kind: type[T], wire: Any) -> T:
    """Return the noun of type `kind` that `to_wire` wrote.

    Raises ValueError (pydantic's ValidationError) where `wire` does not hold one.
    """
    noun: T = _adapter(kind).validate_python(wire)
    return noun


STATE_KEY = "launch"
"""Where the hub-written server state holds its launch."""


def launch_of(server: dict[str, Any]) -> Launch | None:
    """Return the launch in the state of a hub's server model, or None where there is none that can be read."""
    try:
        return from_wire(Launch, (server.get("state") or {})[STATE_KEY])
    except (KeyError, ValueError):
        return None
