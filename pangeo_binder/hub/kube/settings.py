"""The hub's settings for the cluster in which it starts launches: namespaces, neighbours, networks, nodes. Pure.

The deployment's configuration fills them; `manifests` decides what they mean for a launch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ...kube.placement import Placement
from ...limits import GIB

INTERNET_PORTS = (80, 443, 873, 1094, 1095, 9418)
"""HTTP, HTTPS, rsync, XRootD (two) and git: the list of mybinder.org without IPFS and Wolfram's licences
(https://github.com/jupyterhub/mybinder.org-deploy/blob/main/mybinder/values.yaml, `networkPolicy.egress.tcpPorts`)."""


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Labels of the pods in the release's namespace that launches connect to."""

    hub: Mapping[str, str]
    proxy: Mapping[str, str]
    storage: Mapping[str, str]
    gateway: Mapping[str, str] = field(default_factory=dict)
    """dask-gateway's pods, including its traefik; empty if the Dask operator makes the clusters."""


@dataclass(frozen=True, slots=True)
class Ports:
    """The ports of neighbours and servers: of pods, because NetworkPolicies apply after Services are resolved."""

    hub: int = 8081
    server: int = 8888
    storage: int = 9100
    gateway: tuple[int, ...] = (8000,)
    """dask-gateway's API server and traefik's entry point for pages and schedulers."""
    scheduler: tuple[int, ...] = (8786, 8787, 8788)
    """A scheduler's ports: Dask's own, dashboard, and the one of its dask-gateway API."""


@dataclass(frozen=True, slots=True)
class Allowances:
    """What the pods of a launch may use in addition to its grant."""

    scheduler_cores: float = 0.25
    """What a scheduler requests."""
    scheduler_cores_limit: float = 1
    scheduler_memory_bytes: int = GIB
    disk_bytes: int = 10 * GIB
    """The most that each container may write to its node's disk."""
    disk_request_bytes: int = GIB // 4


@dataclass(frozen=True, slots=True)
class Binding:
    """A service of the release that works in launches' own namespaces, and its role there."""

    cluster_role: str
    service_account: str
    namespace: str
    """Of the service account."""


@dataclass(frozen=True, slots=True)
class KubeSettings:
    """One deployment."""

    release_namespace: str
    neighbours: Neighbours
    placement: Placement = field(default_factory=Placement)
    """Where the objects of launches are."""
    ports: Ports = field(default_factory=Ports)
    allowances: Allowances = field(default_factory=Allowances)
    blocked_networks: tuple[str, ...] = (
        "10.0.0.0/8",
        "100.64.0.0/10",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.168.0.0/16",
    )
    """Networks that no launch reaches: private ones, with the cluster's pods, Services and nodes among them."""
    internet: bool = True
    """Whether launches reach the networks that are not blocked."""
    internet_ports: tuple[int, ...] = INTERNET_PORTS
    """The TCP ports that they reach there; without any, they reach nothing there."""
    dns: Mapping[str, str] = field(default_factory=lambda: {"kubernetes.io/metadata.name": "kube-system"})
    """The labels of the namespace of the DNS servers."""
    dns_networks: tuple[str, ...] = ()
    """Networks of DNS servers that are not pods, such as a cache on each node: `169.254.20.10/32`."""
    cluster_kinds: tuple[str, ...] = ("daskclusters.gateway.dask.org",)
    """The resources by which a launch's quota counts its Dask clusters."""
    bindings: tuple[Binding, ...] = ()
    """The services that work in a launch's own namespace; for a shared one the deployment creates the bindings once."""
    pull_policy: str = "IfNotPresent"
    pull_login: str = field(default="", repr=False)
    """A `.dockerconfigjson` with which nodes pull environments; empty if they need none."""
    network_policies: bool = True

    def __post_init__(self) -> None:
        """Refuse a shared namespace without policies: nothing else separates its launches. Raises ValueError."""
        if self.placement.shared and not self.network_policies:
            raise ValueError("Launches in a shared namespace need NetworkPolicies.")
