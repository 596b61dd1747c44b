"""The Kubernetes objects of a launch before its server starts: namespace, quota, limits, policies, Secrets. Pure.

Every object has the launch's label, so that the reaper can attribute it. Not for the server's pod (`spawner`) nor for
the objects of Dask clusters (`hub.dask`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ... import names
from ...kube.labels import launch_annotations, launch_labels
from ...kube.placement import shared_name
from ...model import Launch
from .settings import Binding, KubeSettings

_NEVER = ("169.254.0.0/16",)
"""Clouds' metadata services and nodes' own addresses, which give a node's identity to every caller."""
_NAMESPACE_NAME = "kubernetes.io/metadata.name"
Manifest = dict[str, Any]


def namespace(launch: Launch, settings: KubeSettings) -> Manifest:
    """Return the launch's own namespace; nothing but *restricted* pods may run in it."""
    labels = {**launch_labels(launch), "pod-security.kubernetes.io/enforce": "restricted"}
    name = settings.placement.namespace(launch)
    return {"metadata": {"name": name, "labels": labels, "annotations": launch_annotations(launch)}}


def quota(launch: Launch, settings: KubeSettings) -> Manifest:
    """Return the ResourceQuota of the launch's own namespace: the grant, as the sum over all pods."""
    allowed, server, dask = settings.allowances, launch.grant.server, launch.grant.dask
    clusters, workers = (dask.clusters, dask.workers) if dask else (0, 0)
    cores, memory = (dask.cores, dask.memory_bytes) if dask else (0.0, 0)
    memory += server.memory_bytes + clusters * allowed.scheduler_memory_bytes
    pods = 1 + clusters + workers
    hard = {
        "requests.cpu": _cores(server.cpu + cores + clusters * allowed.scheduler_cores),
        "limits.cpu": _cores(server.cpu + cores + clusters * allowed.scheduler_cores_limit),
        "requests.memory": str(memory),
        "limits.memory": str(memory),
        "limits.ephemeral-storage": str(pods * allowed.disk_bytes),
        "pods": str(pods),
        "persistentvolumeclaims": "0",
        "services.loadbalancers": "0",
        "services.nodeports": "0",
        **{f"count/{kind}": str(clusters) for kind in settings.cluster_kinds},
    }
    return {"metadata": _metadata("launch", launch), "spec": {"hard": hard}}


def limit_range(launch: Launch, settings: KubeSettings) -> Manifest:
    """Return the LimitRange: the largest container, and the size of one without a request."""
    allowed, server, dask = settings.allowances, launch.grant.server, launch.grant.dask
    cores, memory = [server.cpu], [server.memory_bytes]
    if dask:
        cores += [dask.worker_cores, allowed.scheduler_cores_limit]
        memory += [dask.worker_memory_bytes, allowed.scheduler_memory_bytes]
    disk = {"ephemeral-storage": str(allowed.disk_bytes)}
    limits = {
        "type": "Container",
        "max": {"cpu": _cores(max(cores)), "memory": str(max(memory)), **disk},
        "default": {"cpu": _cores(min(cores)), "memory": str(min(memory)), **disk},
        "defaultRequest": {
            "cpu": _cores(min(cores)),
            "memory": str(min(memory)),
            "ephemeral-storage": str(allowed.disk_request_bytes),
        },
    }
    return {"metadata": _metadata("launch", launch), "spec": {"limits": [limits]}}


def network_policy(launch: Launch, settings: KubeSettings) -> Manifest:
    """Return the launch's NetworkPolicy: its own pods, the services it was granted, and the internet."""
    # in a namespace of its own the policy selects every pod, also one without the label
    mine = {"matchLabels": {names.LAUNCH_LABEL: launch.id}}
    spec = {
        "podSelector": mine if settings.placement.shared else {},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"from": [{"podSelector": mine}]}, *_ingress(settings)],
        "egress": [{"to": [{"podSelector": mine}]}, *_egress(settings)],
    }
    name = shared_name("launch", launch.id) if settings.placement.shared else "launch"
    # in a shared namespace the reaper reads the launch's server from it
    return {"metadata": {**_metadata(name, launch), "annotations": launch_annotations(launch)}, "spec": spec}


def _ingress(settings: KubeSettings) -> list[Manifest]:
    neighbours, ports = settings.neighbours, settings.ports
    callers = [_peer(settings, neighbours.hub), _peer(settings, neighbours.proxy)]
    rules = [{"from": callers, "ports": _ports(ports.server)}]
    if neighbours.gateway:
        rules.append({"from": [_peer(settings, neighbours.gateway)], "ports": _ports(*ports.scheduler)})
    return rules


def _egress(settings: KubeSettings) -> list[Manifest]:
    neighbours, ports = settings.neighbours, settings.ports
    dns = [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]
    servers = [{"ipBlock": {"cidr": network}} for network in settings.dns_networks]
    rules: list[Manifest] = [
        {"to": [{"namespaceSelector": {"matchLabels": dict(settings.dns)}}, *servers], "ports": dns},
        {"to": [_peer(settings, neighbours.hub)], "ports": _ports(ports.hub)},
        {"to": [_peer(settings, neighbours.storage)], "ports": _ports(ports.storage)},
    ]
    # a rule without ports would allow all of them, for example 25, from which hosts send spam
    if settings.internet and settings.internet_ports:
        # All IPv6 egress is denied; IPv6 CIDRs are invalid in an IPv4 `except`.
        blocked = sorted({*_NEVER, *(network for network in settings.blocked_networks if ":" not in network)})
        block = {"ipBlock": {"cidr": "0.0.0.0/0", "except": blocked}}
        rules.append({"to": [block], "ports": _ports(*settings.internet_ports)})
    if neighbours.gateway:
        rules.append({"to": [_peer(settings, neighbours.gateway)], "ports": _ports(*ports.gateway)})
    return rules


def _peer(settings: KubeSettings, labels: Mapping[str, str]) -> Manifest:
    return {
        "namespaceSelector": {"matchLabels": {_NAMESPACE_NAME: settings.release_namespace}},
        "podSelector": {"matchLabels": dict(labels)},
    }


def _ports(*ports: int) -> list[Manifest]:
    return [{"port": port, "protocol": "TCP"} for port in ports]


def secret(kind: str, launch: Launch, settings: KubeSettings, variables: Mapping[str, str]) -> Manifest:
    """Return a Secret whose keys are environment variables of the launch's pods."""
    return {"metadata": _metadata(settings.placement.secret(kind, launch), launch), "stringData": dict(variables)}


def pull_secret(launch: Launch, settings: KubeSettings) -> Manifest:
    """Return the Secret with which nodes pull the launch's image."""
    metadata = _metadata(settings.placement.secret("pull", launch), launch)
    return {
        "metadata": metadata,
        "type": "kubernetes.io/dockerconfigjson",
        "stringData": {".dockerconfigjson": settings.pull_login},
    }


def role_binding(launch: Launch, binding: Binding) -> Manifest:
    """Return the RoleBinding that gives a service of the release its rights in the launch's own namespace only."""
    group = "rbac.authorization.k8s.io"
    account = {"kind": "ServiceAccount", "name": binding.service_account, "namespace": binding.namespace}
    return {
        "metadata": _metadata(binding.service_account, launch),
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": binding.cluster_role},
        "subjects": [account],
    }


def _metadata(name: str, launch: Launch) -> Manifest:
    return {"name": name, "labels": launch_labels(launch)}


def _cores(cores: float) -> str:
    """Return cores as Kubernetes writes them, in thousandths."""
    return f"{round(cores * 1000)}m"
