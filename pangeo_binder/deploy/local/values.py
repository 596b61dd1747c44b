"""The values of one local stack: its state directory, ports, secrets and policy.

`up` writes them once, and every process of the stack reads them. Only the owner can read the file, because it holds the
secrets. Not for the Kubernetes chart's values.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import field
from pathlib import Path
from typing import Literal

from pydantic.dataclasses import dataclass

from ...errors import UserError
from ...hosts import HOSTS
from ...local.ports import reserved_port, server_port
from ...loopback import LOOPBACK
from ...model import from_wire, to_wire

START_SECONDS = 300
"""How long a server may take to start. By default a launch waits as long for a seat, so that servers that never come up
lose their seats before those that wait give up."""


class ValuesInvalid(UserError):
    """The values file is unreadable or from another version's `up`."""

    reason = "values_invalid"


@dataclass(frozen=True, slots=True)
class Ports:
    """The TCP ports of a stack, all on loopback."""

    public: int
    hub: int
    proxy_api: int
    binder: int
    gateway: int
    gateway_api: int
    gateway_scheduler: int
    storage: int
    storage_admin: int


def _token() -> str:
    return secrets.token_hex(32)


@dataclass(frozen=True, slots=True, repr=False)
class Secrets:
    """Secrets with which the processes authenticate to each other. Never in a command line; `up` prints one of them."""

    binder_token: str = field(default_factory=_token)
    """The token of this run, with which its user logs in to the binder."""
    ticket_keys: list[str] = field(default_factory=lambda: [_token()])
    hub_cookie: str = field(default_factory=_token)
    proxy_password: str = field(default_factory=_token)
    launches_token: str = field(default_factory=_token)
    """The hub's own token, as its service `launches`."""
    status_token: str = field(default_factory=_token)
    """The token of the command `status`, which may only read."""
    gateway_proxy_token: str = field(default_factory=_token)
    """The token of dask-gateway's proxy, with which it reads its routes from the gateway."""
    gateway_encrypt_key: str = field(default_factory=lambda: secrets.token_hex(32))
    storage_master_key: str = field(default_factory=_token)
    storage_hub_token: str = field(default_factory=_token)
    storage_gateway_token: str = field(default_factory=_token)
    storage_status_token: str = field(default_factory=_token)
    storage_service_token: str = field(default_factory=_token)
    """The storage service's own token at the hub."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalOptions:
    """The options of `up` that are not places of files."""

    queue_seconds: int = START_SECONDS
    """How long a launch may wait for a seat; 0 refuses at once."""
    build_seconds: int = 1800
    """How long one build may take."""
    builds: int = 2
    """How many builds run at once. One person uses this profile, so all may be for one network."""
    build_grace_seconds: int = 60
    """How long a build runs on that nobody follows any more."""
    allow_origins: tuple[str, ...] = ()
    """The other sites whose pages may launch and use sessions; `*` for all."""
    token: bool = True
    """Whether the binder needs the token of this run."""
    auth: Literal["none", "offered", "required"] = "none"
    """Whether people can sign in, or have to. `up` has no option for it, because all sessions run as one user."""
    authenticator: str = ""
    """A file with the configuration of JupyterHub's authenticator, read after our own."""
    log_format: Literal["text", "json"] = "text"
    """The format of the services' log."""
    github: str = HOSTS["gh"].url
    """Where `gh` links lead."""
    gitlab: str = HOSTS["gl"].url
    """Where `gl` links lead."""
    private: tuple[tuple[str, str], ...] = ()
    """Patterns of private repositories that git reads with a token, and the files of the tokens."""


@dataclass(frozen=True, slots=True)
class LocalValues:
    """One local stack."""

    state_dir: Path
    ports: Ports
    secrets: Secrets
    policy: Path | None = None
    """The policy file; None for the local profile's default policy."""
    options: LocalOptions = LocalOptions()

    @property
    def public_url(self) -> str:
        """The public address; ends in a slash."""
        return f"http://{LOOPBACK}:{self.ports.public}/"

    @property
    def binder_token(self) -> str:
        """The token that the binder needs; empty if it needs none."""
        return self.secrets.binder_token if self.options.token else ""

    def with_token(self, address: str) -> str:
        """Return `address`, an address of the binder, with the token that the binder needs."""
        return f"{address}{'&' if '?' in address else '?'}token={self.binder_token}" if self.binder_token else address

    @property
    def address(self) -> str:
        """The public address with the token, as its user opens it."""
        return self.with_token(self.public_url)

    @property
    def hub_api(self) -> str:
        """The hub's REST API, without the proxy."""
        return f"http://{LOOPBACK}:{self.ports.hub}/hub/api"

    @property
    def gateway_url(self) -> str:
        """dask-gateway, without the hub's proxy."""
        return f"http://{LOOPBACK}:{self.ports.gateway}{GATEWAY_PREFIX}"

    @property
    def storage_admin_url(self) -> str:
        """The storage service's credentials API."""
        return f"http://{LOOPBACK}:{self.ports.storage_admin}"

    def folder(self, name: str) -> Path:
        """Return a folder of the state directory; create it, closed to other users, if missing."""
        path = self.state_dir / name
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        return path


GATEWAY_PREFIX = "/services/dask-gateway"
_FILE = "values.json"


def free_port() -> int:
    """Return a free TCP port of loopback that stays reserved for a service while it restarts."""
    return server_port(LOOPBACK)


@contextmanager
def reserved_ports(public: int) -> Iterator[Ports]:
    """Reserve the ports of a stack with the public port `public` until the block is left. Raises OSError."""
    with reserved_port(LOOPBACK, public), _free_ports(public) as ports:
        yield ports


def choose_ports(public: int) -> Ports:
    """Return ports for a stack with the public port `public`, which may be in use; nothing is reserved."""
    with _free_ports(public) as ports:
        return ports


@contextmanager
def _free_ports(public: int) -> Iterator[Ports]:
    with ExitStack() as reserved:
        yield Ports(public, *(reserved.enter_context(reserved_port(LOOPBACK)) for _ in range(8)))


def write_values(values: LocalValues) -> None:
    """Write `values` into its state directory, readable only by the owner."""
    values.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = values.state_dir / _FILE
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:  # noqa: PTH123
        os.fchmod(file.fileno(), 0o600)  # otherwise an existing file keeps its mode
        json.dump(to_wire(values), file)


def read_values(state_dir: str | Path) -> LocalValues:
    """Return the values of the stack at `state_dir`.

    Raises FileNotFoundError if there is no stack, and ValuesInvalid if the file is unreadable or malformed.
    """
    path = Path(state_dir) / _FILE
    try:
        return from_wire(LocalValues, json.loads(path.read_text()))
    except NotADirectoryError:
        raise FileNotFoundError(path) from None
    except FileNotFoundError:
        raise
    except (OSError, ValueError, TypeError):
        raise ValuesInvalid(
            f"{path} does not hold valid values of a stack.", "Start `pangeo-binder up` with this folder to rewrite it."
        ) from None
