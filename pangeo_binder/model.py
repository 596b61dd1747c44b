"""The frozen nouns that cross borders: Click, RepoRef, Repo, Environment, Launch, Grant, Server.

Units are in the names; sizes are bytes, times are seconds, cores are whole or part CPUs. `to_wire`/`from_wire` carry a
noun through JSON. Not for decisions (`policy`) nor for texts (`events`).
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from functools import cache
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BeforeValidator, Field, TypeAdapter
from pydantic.dataclasses import dataclass

from .errors import SpawnFailed

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Click:
    """One click on a launch link: the link's two parts, who clicked, and how they reach this service."""

    provider: str
    spec: str
    """The part of the link after the provider, still percent-encoded as the browser sent it."""
    network: str
    """The client's network as rules count it: an IPv4 address or an IPv6 /64."""
    hub_url: str
    """The public address of the hub's proxy as this person reaches it; servers are below it. Ends in a slash."""
    user: str | None = None
    """The login; None for an anonymous launch."""


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


class FetchKind(StrEnum):
    """How a repository's files are fetched."""

    GIT = "git"


def _read_repo(wire: Any) -> Any:
    """Read what version 0.1 wrote, for the servers that run across an upgrade."""
    if isinstance(wire, dict) and "commit" in wire:
        return {"revision": wire["commit"], **{key: value for key, value in wire.items() if key != "commit"}}
    return wire


@dataclass(frozen=True, slots=True)
class Repo:
    """A repository at one revision: what a RepoRef resolved to."""

    ref: RepoRef
    revision: str
    """What the ref stands for now: a full commit id, or the version or record id of an archive."""
    fetch: FetchKind = FetchKind.GIT


@dataclass(frozen=True, slots=True)
class VirtualEnvironment:
    """A virtual environment of this machine."""

    id: str
    prefix: str
    """Its directory."""
    checkout: str
    """The directory with the repository's files, which are copied into each launch's home."""
    start: tuple[str, ...] = ()
    """The repository's `start` command, which runs the server's command; empty without one."""
    kind: Literal["venv"] = "venv"


@dataclass(frozen=True, slots=True)
class CondaPrefix:
    """A conda environment of this machine: a directory with an interpreter of its own."""

    id: str
    prefix: str
    """Its directory."""
    checkout: str
    """The directory with the repository's files, which are copied into each launch's home."""
    start: tuple[str, ...] = ()
    """The repository's `start` command, which runs the server's command; empty without one."""
    kind: Literal["conda"] = "conda"


@dataclass(frozen=True, slots=True)
class ContainerImage:
    """A container image with the environment and the repository's files in it."""

    id: str
    reference: str
    """The reference by which nodes pull it, with its digest."""
    kind: Literal["image"] = "image"


def _read_environment(wire: Any) -> Any:
    """Read what version 0.1 wrote, in which `prefix` was a directory or an image reference."""
    if not isinstance(wire, dict) or "kind" in wire:
        return wire
    if wire.get("checkout"):
        return {**wire, "kind": "venv"}
    return {"id": wire.get("id"), "reference": wire.get("prefix"), "kind": "image"}


LocalEnvironment = VirtualEnvironment | CondaPrefix
Environment = Annotated[LocalEnvironment | ContainerImage, Field(discriminator="kind")]
"""A built environment; the same repository and revision always give the same one."""


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


@dataclass(frozen=True, slots=True)
class Grant:
    """The policy's answer to one launch: what it gets, and why."""

    tier: str
    rule: int
    """The number of the rule that matched, from 1."""
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
    repo: Annotated[Repo, BeforeValidator(_read_repo)]
    environment: Annotated[Environment, BeforeValidator(_read_environment)]
    grant: Grant
    network: str = ""
    """The client's network as rules count it (`per_network`): an IPv4 address or an IPv6 /64."""

    @property
    def image(self) -> str:
        """The reference of the launch's image. Raises SpawnFailed for an environment of another kind."""
        if isinstance(self.environment, ContainerImage):
            return self.environment.reference
        raise _wrong_kind(self.environment.kind)

    @property
    def local_environment(self) -> LocalEnvironment:
        """The launch's environment as a directory of this machine. Raises SpawnFailed for an image."""
        if isinstance(self.environment, ContainerImage):
            raise _wrong_kind(self.environment.kind)
        return self.environment


def _wrong_kind(kind: str) -> SpawnFailed:
    return SpawnFailed(
        f"This service cannot start environments of the kind `{kind}`.", "Tell its operator; the build was for another."
    )


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
