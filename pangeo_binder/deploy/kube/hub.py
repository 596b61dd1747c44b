"""Configures JupyterHub on Kubernetes, after the official chart's own configuration has been read."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from ...hub.admission_api import handlers
from ...hub.admissions import AdmissionTable
from ...hub.dask.gateway import GatewayClusters, GatewayService
from ...hub.dask.operator.clusters import OperatorClusters
from ...hub.dask.operator.manifests import OperatorSettings
from ...hub.kube.namespaces import Namespaces
from ...hub.kube.settings import Allowances, Binding, KubeSettings, Neighbours, Ports
from ...hub.kube.spawner import KubeLaunchSpawner
from ...hub.provision import Clusters, Provisioner, StorageService
from ...hub.roles import GATEWAY, LAUNCHES, NAMESPACES, SERVER_TOKEN_SCOPES, STATUS, roles
from ...kube.api import KubeApi
from .values import (
    CONFIG,
    GATEWAY_API_PORT,
    PULL_LOGIN,
    SERVER_PORT,
    STORAGE_PORT,
    KubeValues,
    read_secret,
    read_values,
)

_POLL_SECONDS = 10
"""How soon a server's death is noticed; KubeSpawner asks its own watch, which costs nothing."""
_PULL = "pull"
"""The name of a launch's own Secret to pull with, as `hub.site` gives it in a namespace of its own."""


def configure(c: Any) -> None:
    """Configure the hub."""
    values = read_values()
    _hub(c, values)
    _spawner(c, values)
    c.JupyterHub.services = [*c.JupyterHub.get("services", ()), *_services(values)]
    c.JupyterHub.load_roles = [*c.JupyterHub.get("load_roles", ()), *roles(on_kubernetes=True)]


def _hub(c: Any, values: KubeValues) -> None:
    # sessions are in other namespaces, where the chart's short name means nothing
    c.JupyterHub.hub_connect_url = values.hub_url
    c.JupyterHub.public_url = values.public_url
    # the binder answers everything but the hub's own pages, servers' addresses of ended sessions included
    c.JupyterHub.hub_routespec = "/hub/"
    c.Proxy.extra_routes = {"/": values.address("binder", 80)}
    # nobody logs in unless the operator says how; without this the hub would warn of it at every start
    c.Authenticator.any_allow_config = True


def _spawner(c: Any, values: KubeValues) -> None:
    c.JupyterHub.spawner_class = KubeLaunchSpawner
    spawner = c.KubeLaunchSpawner
    spawner.ticket_keys = read_secret("ticket-keys").split()
    # how many binders there are is not known here: they may be scaled at any time
    spawner.admissions = AdmissionTable()
    c.JupyterHub.extra_handlers = [*c.JupyterHub.get("extra_handlers", ()), *handlers(spawner.admissions)]
    spawner.server_token_scopes = SERVER_TOKEN_SCOPES
    storage = StorageService(values.storage_admin_url, read_secret("issue-token"))
    spawner.provisioner = Provisioner(storage, _clusters(values))
    spawner.surroundings = Namespaces(site_of(values), KubeApi())
    spawner.port = SERVER_PORT
    spawner.start_timeout = spawner.http_timeout = values.launches.start_seconds
    c.Spawner.poll_interval = _POLL_SECONDS


def site_of(values: KubeValues) -> KubeSettings:
    """Return what the hub has to know of the cluster."""
    site, scheduler = values.site, values.dask.scheduler
    operated = values.dask.backend == "operator"
    return KubeSettings(
        release_namespace=site.namespace,
        neighbours=_neighbours(values),
        namespace_prefix=values.launches.prefix,
        shared_namespace=site.shared_namespace,
        ports=Ports(server=SERVER_PORT, storage=STORAGE_PORT, gateway=(GATEWAY_API_PORT,)),
        allowances=Allowances(
            scheduler_cores=scheduler.cpu,
            scheduler_cores_limit=scheduler.cpu_limit,
            scheduler_memory_bytes=scheduler.memory_bytes,
        ),
        tiers=values.tier_pods(site.priority_classes.servers),
        blocked_networks=values.launches.blocked_networks,
        internet=values.launches.internet,
        dns_networks=values.launches.dns_networks,
        bindings=tuple(Binding(each.role, each.account, site.namespace) for each in site.launch_roles),
        cluster_kinds=("daskclusters.kubernetes.dask.org" if operated else "daskclusters.gateway.dask.org",),
        pull_login=PULL_LOGIN.read_text() if values.launches.pull_login else "",
    )


def _neighbours(values: KubeValues) -> Neighbours:
    """Return the labels that the official charts and ours give to pods."""

    def labels(name: str, component: str) -> Mapping[str, str]:
        held = {"name": name, "instance": values.site.release, "component": component}
        return {f"app.kubernetes.io/{key}": value for key, value in held.items() if value}

    return Neighbours(
        hub=labels("jupyterhub", "hub"),
        proxy=labels("jupyterhub", "proxy"),
        storage=labels("pangeo-binder", "storage"),
        gateway=labels("dask-gateway", "") if values.dask.backend == "gateway" else {},
    )


def _clusters(values: KubeValues) -> Clusters:
    if values.dask.backend == "gateway":
        environment = MappingProxyType(_gateway_environment(values))
        return GatewayClusters(GatewayService(values.gateway_api_url, read_secret("launches-token"), environment))
    scheduler = values.dask.scheduler
    return OperatorClusters(
        OperatorSettings(
            prefix=values.launches.prefix,
            tiers=values.tier_pods(values.site.priority_classes.dask),
            scheduler_cores=scheduler.cpu,
            scheduler_cores_limit=scheduler.cpu_limit,
            scheduler_memory_bytes=scheduler.memory_bytes,
            pull_secrets=(_PULL,) if values.launches.pull_login else (),
            start_seconds=values.dask.start_seconds,
        )
    )


def _gateway_environment(values: KubeValues) -> dict[str, str]:
    """Return how sessions reach dask-gateway: within the cluster, and its dashboards as people do."""
    traefik = values.address(values.site.gateway_traefik, values.site.traefik_port).removeprefix("http://")
    return {
        "DASK_GATEWAY__ADDRESS": values.gateway_url,
        "DASK_GATEWAY__PUBLIC_ADDRESS": values.site.gateway_prefix,
        "DASK_GATEWAY__PROXY_ADDRESS": f"gateway://{traefik}",
        "DASK_GATEWAY__AUTH__TYPE": "jupyterhub",
        "DASK_LABEXTENSION__FACTORY__MODULE": "pangeo_binder_session.dask",
        "DASK_LABEXTENSION__FACTORY__CLASS": "attach",
    }


def _services(values: KubeValues) -> list[dict[str, Any]]:
    culler = [sys.executable, "-m", "jupyterhub_idle_culler", f"--config={CONFIG / 'culler.py'}"]
    services: list[dict[str, Any]] = [
        {"name": "binder", "api_token": read_secret("binder-token"), "display": False},
        {"name": "storage", "api_token": read_secret("storage-token"), "display": False},
        {"name": "culler", "command": culler, "display": False},
        {"name": LAUNCHES, "api_token": read_secret("launches-token"), "display": False},
        {"name": STATUS, "api_token": read_secret("status-token"), "display": False},
    ]
    reaper = [sys.executable, "-m", "pangeo_binder.hub.kube.namespace_reaper"]
    reaper += [values.site.shared_namespace] if values.site.shared_namespace else []
    services.append({"name": NAMESPACES, "command": reaper, "environment": _way_to_kubernetes(), "display": False})
    # a service of roles even where the operator makes clusters; the proxy leads to it only where it is
    gateway: dict[str, Any] = {"name": GATEWAY, "api_token": read_secret("gateway-token"), "display": False}
    if values.dask.backend == "gateway":
        gateway["url"] = values.address(values.site.gateway_traefik, values.site.traefik_port)
    return [*services, gateway]


def _way_to_kubernetes() -> dict[str, str]:
    """Return what a pod is told of the API server's address, which JupyterHub keeps from services it runs."""
    told = {name: value for name, value in os.environ.items() if name.startswith("KUBERNETES_SERVICE_")}
    # the client library looks for a home when it is imported, and the pod's user has none
    return {"HOME": os.environ.get("HOME", "/tmp"), **told}  # noqa: S108 - nothing is written there
