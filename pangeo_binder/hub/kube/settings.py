"""What the hub has to know of the cluster it starts launches in: namespaces, neighbours, networks, nodes. Pure.

Filled by the deployment's configuration; what is made of it for a launch is decided in `manifests`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ... import names
from ...kube.pods import TierPods
from ...limits import GIB
from ...model import Launch


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Pods of the release's namespace that launches speak with, by their labels."""

    hub: Mapping[str, str]
    proxy: Mapping[str, str]
    storage: Mapping[str, str]
    gateway: Mapping[str, str] = field(default_factory=dict)
    """dask-gateway's pods, its traefik included; empty where clusters are the operator's."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Where neighbours and servers listen: ports of pods, since NetworkPolicies are held after Services."""

    hub: int = 8081
    server: int = 8888
    storage: int = 9100
    gateway: tuple[int, ...] = (8000,)
    """dask-gateway's API server and traefik's entry point for pages and schedulers."""
    scheduler: tuple[int, ...] = (8786, 8787, 8788)
    """A scheduler's ports: Dask's own, dashboard, and the one dask-gateway asks."""


@dataclass(frozen=True, slots=True)
class Allowances:
    """What pods of a launch may take beside what its grant says."""

    scheduler_cores: float = 0.25
    """What a scheduler is sure to get."""
    scheduler_cores_limit: float = 1
    scheduler_memory_bytes: int = GIB
    disk_bytes: int = 10 * GIB
    """How much each container may write to its node's disk."""
    disk_request_bytes: int = GIB // 4


@dataclass(frozen=True, slots=True)
class Binding:
    """A service of the release that works in launches' own namespaces, and what it may do there."""

    cluster_role: str
    service_account: str
    namespace: str
    """Of the service account."""


SECRETS = ("session", "storage", "pull")
"""The kinds of Secrets a launch has."""


def shared_name(kind: str, launch_id: str) -> str:
    """Return the name of a launch's object in a shared namespace."""
    return f"{kind}-{launch_id}"


@dataclass(frozen=True, slots=True)
class KubeSettings:
    """One deployment."""

    release_namespace: str
    neighbours: Neighbours
    namespace_prefix: str = "launch"
    """Launches' own namespaces are `<prefix>-<launch id>`."""
    shared_namespace: str = ""
    """The one namespace of all launches; empty where each has its own."""
    ports: Ports = field(default_factory=Ports)
    allowances: Allowances = field(default_factory=Allowances)
    tiers: Mapping[str, TierPods] = field(default_factory=dict)
    """What servers of a tier run on; a tier without an entry has no placement of its own."""
    blocked_networks: tuple[str, ...] = (
        "10.0.0.0/8",
        "100.64.0.0/10",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.168.0.0/16",
    )
    """What no launch reaches of the internet: private networks, the cluster's pods, Services and nodes among them."""
    internet: bool = True
    """Whether launches reach what is not blocked."""
    dns: Mapping[str, str] = field(default_factory=lambda: {"kubernetes.io/metadata.name": "kube-system"})
    """The labels of the namespace that name servers run in."""
    dns_networks: tuple[str, ...] = ()
    """Where name servers are that are no pods, such as a cache on each node: `169.254.20.10/32`."""
    cluster_kinds: tuple[str, ...] = ("daskclusters.gateway.dask.org",)
    """The resources of which a launch's quota counts its Dask clusters."""
    bindings: tuple[Binding, ...] = ()
    """Who else works in a launch's own namespace; in a shared one the deployment says so once."""
    pull_policy: str = "IfNotPresent"
    pull_login: str = field(default="", repr=False)
    """A `.dockerconfigjson` with which nodes pull environments; empty where they need none."""
    network_policies: bool = True

    def __post_init__(self) -> None:
        """Refuse a shared namespace without policies: nothing else keeps its launches apart. Raises ValueError."""
        if self.shared_namespace and not self.network_policies:
            raise ValueError("Launches in a shared namespace need NetworkPolicies.")

    def namespace(self, launch: Launch) -> str:
        """Return the namespace of the launch's objects."""
        return self.shared_namespace or names.launch_namespace(self.namespace_prefix, launch.id)

    def secret(self, kind: str, launch: Launch) -> str:
        """Return the name of a launch's Secret: `session`, `storage` or `pull`."""
        return shared_name(kind, launch.id) if self.shared_namespace else kind

    def pods(self, launch: Launch) -> TierPods:
        """Return what the launch's server runs on."""
        return self.tiers.get(launch.grant.tier, TierPods())
