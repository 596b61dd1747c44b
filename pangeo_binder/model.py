"""The immutable types shared by all processes: Click, RepoRef, Repo, Environment, Launch, Grant, Server.

Names carry units; sizes are bytes, times are seconds, cores are whole or fractional CPUs. `to_wire`/`from_wire`
convert a type to and from JSON. Not for decisions (`policy`) or texts (`events`).
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from functools import cache
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import quote

from pydantic import BeforeValidator, Field, TypeAdapter
from pydantic.dataclasses import dataclass

from .errors import SpawnFailed
from .names import is_anonymous_user

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Click:
    """One click on a launch link: the link's two parts, the user, and how the user reaches this service."""

    provider: str
    spec: str
    """The part of the link after the provider, still percent-encoded as the browser sent it."""
    network: str
    """The client's network for the rules' limits: an IPv4 address or an IPv6 /64."""
    hub_url: str
    """The public address of the hub's proxy as this user reaches it; the prefix of servers. Ends in a slash."""
    binder_url: str = ""
    """The public address of the binder as this user reaches it. Ends in a slash."""
    user: str | None = None
    """The user name; None for an anonymous launch."""
    groups: tuple[str, ...] = ()
    """The groups that JupyterHub has the user in."""
    session_domain: str = ""
    """The host (and port) below which each session has its own; empty if all have the proxy's."""
    build_only: bool = False
    """Whether only the environment is wanted: no seat is taken and no server started."""

    def hub_url_of(self, label: str) -> str:
        """Return the public address of the proxy for the session whose host begins with `label`, a DNS label."""
        return _at_own_host(self.hub_url, self.session_domain, label)


@dataclass(frozen=True, slots=True)
class RepoRef:
    """A repository and ref as a link names them, validated but not resolved."""

    provider: str
    """The first part of a `/v2/<provider>/<spec>` link, such as `gh`."""
    url: str
    ref: str
    """A branch, tag, commit or `HEAD`."""

    @property
    def name(self) -> str:
        """The last part of the repository's address, for titles and slugs."""
        return self.url.rstrip("/").removesuffix(".git").rsplit("/", 1)[-1].rsplit(":", 1)[-1]

    @property
    def key(self) -> str:
        """The text that policy rules match: `git/https://example.org/org/repo`."""
        return f"{self.provider}/{self.url}"


class FetchKind(StrEnum):
    """The method to fetch a repository's files."""

    GIT = "git"
    ARCHIVE = "archive"


def _read_repo(wire: Any) -> Any:
    """Convert the form of version 0.1, for servers that keep running across an upgrade."""
    if isinstance(wire, dict) and "commit" in wire:
        return {"revision": wire["commit"], **{key: value for key, value in wire.items() if key != "commit"}}
    return wire


@dataclass(frozen=True, slots=True)
class Repo:
    """A repository at one revision, resolved from a RepoRef."""

    ref: RepoRef
    revision: str
    """The resolved ref: a full commit id, or the version or record id of an archive."""
    fetch: FetchKind = FetchKind.GIT
    files_url: str = ""
    """The address of the public API's answer that lists an archive's files."""


@dataclass(frozen=True, slots=True)
class VirtualEnvironment:
    """A virtual environment of this machine."""

    id: str
    prefix: str
    """Its directory."""
    checkout: str
    """The directory with the repository's files, copied into each launch's home."""
    start: tuple[str, ...] = ()
    """The repository's `start` command, which runs the server's command; empty without one."""
    kind: Literal["venv"] = "venv"


@dataclass(frozen=True, slots=True)
class CondaPrefix:
    """A conda environment of this machine: a directory with its own interpreter."""

    id: str
    prefix: str
    """Its directory."""
    checkout: str
    """The directory with the repository's files, copied into each launch's home."""
    start: tuple[str, ...] = ()
    """The repository's `start` command, which runs the server's command; empty without one."""
    kind: Literal["conda"] = "conda"


@dataclass(frozen=True, slots=True)
class ContainerImage:
    """A container image with the environment and the repository's files."""

    id: str
    reference: str
    """The reference that nodes pull, with its digest."""
    kind: Literal["image"] = "image"


def _read_environment(wire: Any) -> Any:
    """Convert the form of version 0.1, in which `prefix` was a directory or an image reference."""
    if not isinstance(wire, dict) or "kind" in wire:
        return wire
    if wire.get("checkout"):
        return {**wire, "kind": "venv"}
    return {"id": wire.get("id"), "reference": wire.get("prefix"), "kind": "image"}


LocalEnvironment = VirtualEnvironment | CondaPrefix
Environment = Annotated[LocalEnvironment | ContainerImage, Field(discriminator="kind")]
"""A built environment; the same repository and revision always give the same environment."""


@dataclass(frozen=True, slots=True)
class ServerGrant:
    """Limits of one notebook server."""

    cpu: float
    memory_bytes: int
    idle_seconds: int
    """The culler ends the server after this time without activity."""
    max_age_seconds: int
    """The culler ends the server at this age, even if it is active."""


@dataclass(frozen=True, slots=True)
class DaskGrant:
    """Limits of a launch's Dask clusters, for all of them together."""

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
    """Whether to make the first cluster before the notebook opens (`start: try` or `ready`)."""
    required: bool = False
    """Whether the launch fails without its first cluster (`start: ready`); otherwise it continues without it."""


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """A named data set that the operator lets launches read."""

    name: str
    url: str
    region: str = ""
    anonymous: bool = True


@dataclass(frozen=True, slots=True)
class StorageGrant:
    """Limits of a launch's storage."""

    scratch_bytes: int
    keep_seconds: int
    """How long to keep scratch after the launch ends."""
    egress_bytes: int | None = None
    """The total that may be read; None for no limit."""
    read: tuple[CatalogueEntry, ...] = ()


def _rule_identity(value: object) -> object:
    """Return a rule's identity; earlier versions wrote its number, which becomes a text that no rule of today has."""
    return f"#{value}" if isinstance(value, int) else value


@dataclass(frozen=True, slots=True)
class Grant:
    """The policy's answer for one launch: its limits and the reason."""

    tier: str
    rule: Annotated[str, BeforeValidator(_rule_identity)]
    """The identity of the rule that matched: its name, or a hash of what it says; never its position."""
    reason: str
    """One sentence naming the rule, for `explain`, logs and the launch page."""
    server: ServerGrant
    dask: DaskGrant | None = None
    storage: StorageGrant | None = None


@dataclass(frozen=True, slots=True)
class Link:
    """The link of a launch, in the parts that BinderHub gives to its clients and sessions."""

    host: str = ""
    """The binder's public address; ends in a slash."""
    request: str = ""
    """The link as it was opened, after the host: `v2/<provider>/<spec>`."""
    persistent_request: str = ""
    """The same with the resolved ref."""
    ref_url: str = ""
    """The address of the repository at the resolved ref for a browser, if known, else of the repository."""


@dataclass(frozen=True, slots=True)
class Launch:
    """One admitted click, with its environment and grant. The ticket and the server's state hold it."""

    id: str
    user: str
    server: str
    """The hub's server name; empty for the default server."""
    repo: Annotated[Repo, BeforeValidator(_read_repo)]
    environment: Annotated[Environment, BeforeValidator(_read_environment)]
    grant: Grant
    network: str = ""
    """The client's network for `per_network` limits: an IPv4 address or an IPv6 /64."""
    link: Link = Link()

    @property
    def person(self) -> str:
        """The login name of the person who launched; empty for an anonymous launch."""
        return "" if is_anonymous_user(self.user) else self.user

    @property
    def host_label(self) -> str:
        """The first label of the session's own host: sessions of one person have different origins."""
        return self.server or self.user

    @property
    def image(self) -> str:
        """The reference of the launch's image. Raises SpawnFailed if the environment is not an image."""
        if isinstance(self.environment, ContainerImage):
            return self.environment.reference
        raise _wrong_kind(self.environment.kind)

    @property
    def local_environment(self) -> LocalEnvironment:
        """The launch's environment as a directory on this machine. Raises SpawnFailed for an image."""
        if isinstance(self.environment, ContainerImage):
            raise _wrong_kind(self.environment.kind)
        return self.environment


def _at_own_host(hub_url: str, session_domain: str, label: str) -> str:
    if not session_domain:
        return hub_url
    scheme, _, rest = hub_url.partition("://")
    return f"{scheme}://{label}.{session_domain}/{rest.partition('/')[2]}"


def server_address(hub_url: str, session_domain: str, launch: Launch) -> str:
    """Return the public address of the launch's server; ends in a slash. `hub_url` is the proxy's, with a slash."""
    # JupyterHub's own way to write names in its routes: jupyterhub.utils.url_escape_path
    path = "/".join(quote(part, safe="@~") for part in ("user", launch.user, launch.server) if part)
    return f"{_at_own_host(hub_url, session_domain, launch.host_label)}{path}/"


def _wrong_kind(kind: str) -> SpawnFailed:
    return SpawnFailed(f"This service cannot start environments of the kind `{kind}`.", "Report it to the operator.")


@dataclass(frozen=True, slots=True)
class Server:
    """A starting or running server, as the hub reports it, with its launch."""

    launch: Launch
    ready: bool
    url: str
    started: str
    last_activity: str


_adapter: Callable[[Any], TypeAdapter[Any]] = cache(TypeAdapter)  # making one costs a millisecond


def to_wire(noun: Any) -> dict[str, Any]:
    """Convert an object of this module to JSON-compatible values."""
    wire: dict[str, Any] = _adapter(type(noun)).dump_python(noun, mode="json")
    return wire


def from_wire(kind: type[T], wire: Any) -> T:
    """Return the object of type `kind` that `to_wire` converted.

    Raises ValueError (pydantic's ValidationError) if `wire` is not one.
    """
    noun: T = _adapter(kind).validate_python(wire)
    return noun


STATE_KEY = "launch"
"""The key of the launch in a server's state, which only the hub writes."""


def launch_of(server: dict[str, Any]) -> Launch | None:
    """Return the launch in the state of a hub's server model, or None if absent or malformed."""
    try:
        return from_wire(Launch, (server.get("state") or {})[STATE_KEY])
    except (KeyError, ValueError):
        return None
