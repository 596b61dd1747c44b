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
from ...hub.kube.host_proxy import HostRoutingProxy
from ...hub.kube.launch_objects import LaunchObjects
from ...hub.kube.settings import Allowances, Binding, KubeSettings, Neighbours, Ports
from ...hub.kube.spawner import KubeLaunchSpawner
from ...hub.logins import CLIENT, configure_logins
from ...hub.provision import Clusters, Provisioner, StorageService
from ...hub.request_limits import limit_requests
from ...hub.request_log import log_request
from ...hub.roles import BINDER, GATEWAY, LAUNCHES, NAMESPACES, SERVER_TOKEN_SCOPES, STATUS, roles
from ...hub.user_api import user_handlers
from ...kube.api import KubeApi
from ...kube.placement import Placement
from ...logs import VARIABLE as LOG_FORMAT
from ...logs import application_logging
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
"""How soon the hub notices that a server has ended; KubeSpawner polls its own watch, which costs nothing."""


def configure(c: Any) -> None:
    """Configure the hub."""
    values = read_values()
    limit_requests()
    _hub(c, values)
    _spawner(c, values)
    c.JupyterHub.services = [*c.JupyterHub.get("services", ()), *_services(values)]
    logins = values.binder.auth != "none"
    c.JupyterHub.load_roles = [*c.JupyterHub.get("load_roles", ()), *roles(on_kubernetes=True, logins=logins)]
    if logins:
        configure_logins(c)


def _hub(c: Any, values: KubeValues) -> None:
    c.JupyterHub.tornado_settings = {**c.JupyterHub.get("tornado_settings", {}), "log_function": log_request}
    c.JupyterHub.logging_config = application_logging("hub", as_json=values.log_format == "json")
    # sessions are in other namespaces, where the chart's short name does not resolve
    c.JupyterHub.hub_connect_url = values.hub_url
    c.JupyterHub.public_url = values.public_url
    # the binder answers everything but the hub's own pages, servers' addresses of ended sessions included
    c.JupyterHub.hub_routespec = f"{values.session_domain}/hub/"
    c.Proxy.extra_routes = {"/": values.address("binder", 80)}
    # a person has a server for each launch; how many, says the policy
    c.JupyterHub.allow_named_servers = True
    if values.session_domain:
        _give_each_session_its_host(c, values)
    # nobody logs in unless the operator configures it; without this the hub warns at every start
    c.Authenticator.any_allow_config = True


def _give_each_session_its_host(c: Any, values: KubeValues) -> None:
    c.JupyterHub.subdomain_host = values.public_url.rstrip("/")
    c.JupyterHub.proxy_class = HostRoutingProxy
    # a session could otherwise set a cookie for the parent domain in place of the hub's; the prefix needs https
    c.JupyterHub.cookie_host_prefix_enabled = values.binder.https


def _spawner(c: Any, values: KubeValues) -> None:
    c.JupyterHub.spawner_class = KubeLaunchSpawner
    spawner = c.KubeLaunchSpawner
    spawner.ticket_keys = read_secret("ticket-keys").split()
    spawner.allow_origins = values.binder.cors_allow_origin.split()
    # how many binders there are is not known here: they may be scaled at any time
    spawner.admissions = AdmissionTable()
    c.JupyterHub.extra_handlers = [
        *c.JupyterHub.get("extra_handlers", ()),
        *handlers(spawner.admissions),
        *user_handlers(),
    ]
    spawner.server_token_scopes = SERVER_TOKEN_SCOPES
    storage = StorageService(values.storage_admin_url, read_secret("issue-token"))
    spawner.provisioner = Provisioner(storage, _clusters(values))
    spawner.launch_objects = LaunchObjects(kube_settings(values), KubeApi())
    spawner.port = SERVER_PORT
    spawner.start_timeout = spawner.http_timeout = values.launches.start_seconds
    c.Spawner.poll_interval = _POLL_SECONDS


def kube_settings(values: KubeValues) -> KubeSettings:
    """Return the hub's settings for the cluster."""
    site, scheduler = values.site, values.dask.scheduler
    operated = values.dask.backend == "operator"
    return KubeSettings(
        release_namespace=site.namespace,
        neighbours=_neighbours(values),
        placement=_placement(values, site.priority_classes.servers),
        ports=Ports(server=SERVER_PORT, storage=STORAGE_PORT, gateway=(GATEWAY_API_PORT,)),
        allowances=Allowances(
            scheduler_cores=scheduler.cpu,
            scheduler_cores_limit=scheduler.cpu_limit,
            scheduler_memory_bytes=scheduler.memory_bytes,
        ),
        blocked_networks=values.launches.blocked_networks,
        internet=values.launches.internet,
        internet_ports=values.launches.internet_ports,
        dns_networks=values.launches.dns_networks,
        bindings=tuple(Binding(each.role, each.account, site.namespace) for each in site.launch_roles),
        cluster_kinds=("daskclusters.kubernetes.dask.org" if operated else "daskclusters.gateway.dask.org",),
        pull_login=PULL_LOGIN.read_text() if values.launches.pull_login else "",
    )


def _placement(values: KubeValues, priority_class: str) -> Placement:
    """Return where launches' objects are; their pods have the tier's priority class or `priority_class`."""
    return Placement(values.launches.prefix, values.site.shared_namespace, values.tier_pods(priority_class))


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
            placement=_placement(values, values.site.priority_classes.dask),
            scheduler_cores=scheduler.cpu,
            scheduler_cores_limit=scheduler.cpu_limit,
            scheduler_memory_bytes=scheduler.memory_bytes,
            pull_login=values.launches.pull_login,
            start_seconds=values.dask.start_seconds,
        )
    )


def _gateway_environment(values: KubeValues) -> dict[str, str]:
    """Return the variables with which sessions reach dask-gateway in the cluster, and its dashboards publicly."""
    traefik = values.address(values.site.gateway_traefik, values.site.traefik_port).removeprefix("http://")
    return {
        "DASK_GATEWAY__ADDRESS": values.gateway_url,
        "DASK_GATEWAY__PUBLIC_ADDRESS": values.gateway_public_address,
        "DASK_GATEWAY__PROXY_ADDRESS": f"gateway://{traefik}",
        "DASK_GATEWAY__AUTH__TYPE": "jupyterhub",
        "DASK_LABEXTENSION__FACTORY__MODULE": "pangeo_binder_session.dask",
        "DASK_LABEXTENSION__FACTORY__CLASS": "attach",
    }


def _services(values: KubeValues) -> list[dict[str, Any]]:
    culler = [sys.executable, "-m", "pangeo_binder.hub.cull", f"--config={CONFIG / 'culler.py'}"]
    client = CLIENT if values.binder.auth != "none" else {}
    services: list[dict[str, Any]] = [
        {"name": BINDER, "api_token": read_secret("binder-token"), "display": False, **client},
        {"name": "storage", "api_token": read_secret("storage-token"), "display": False},
        {"name": "culler", "command": culler, "display": False},
        {"name": LAUNCHES, "api_token": read_secret("launches-token"), "display": False},
        {"name": STATUS, "api_token": read_secret("status-token"), "display": False},
    ]
    reaper = [sys.executable, "-m", "pangeo_binder.hub.kube.namespace_reaper"]
    reaper += [values.site.shared_namespace] if values.site.shared_namespace else []
    environment = _reaper_environment(values)
    services.append({"name": NAMESPACES, "command": reaper, "environment": environment, "display": False})
    # the roles need this service also if the operator makes clusters; then the proxy has no route to it
    gateway: dict[str, Any] = {"name": GATEWAY, "api_token": read_secret("gateway-token"), "display": False}
    if values.dask.backend == "gateway":
        gateway["url"] = values.address(values.site.gateway_traefik, values.site.traefik_port)
    return [*services, gateway]


def _reaper_environment(values: KubeValues) -> dict[str, str]:
    """Return the pod's variables with the API server's address, which JupyterHub does not pass to its services."""
    address = {name: value for name, value in os.environ.items() if name.startswith("KUBERNETES_SERVICE_")}
    # the client library reads the home directory when it is imported, and the pod's user has none
    return {"HOME": os.environ.get("HOME", "/tmp"), LOG_FORMAT: values.log_format, **address}  # noqa: S108 - nothing is written there
