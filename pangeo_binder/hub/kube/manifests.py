"""What Kubernetes holds for a launch before its server starts: namespace, quota, limits, policies, Secrets. Pure.

Everything carries the launch's label, so that the reaper can always tell whose it is. Not for the server's pod itself
(`kube`) nor for what Dask's makers write (`gateway`, `operator_manifests`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ... import names
from ...model import Launch
from .settings import Binding, KubeSettings, shared_name

SERVER_ANNOTATION = f"{names.LABEL}/server"
_ANNOTATION_LENGTH = 500
_NEVER = ("169.254.0.0/16",)
"""Clouds' metadata services and nodes' own addresses, which hand out nodes' identities to whoever asks."""
_NAMESPACE_NAME = "kubernetes.io/metadata.name"
Manifest = dict[str, Any]


def launch_labels(launch: Launch) -> dict[str, str]:
    """Return the labels of everything that belongs to `launch`."""
    return {names.LAUNCH_LABEL: launch.id, names.TIER_LABEL: launch.grant.tier, **names.MANAGED_LABELS}


def launch_annotations(launch: Launch) -> dict[str, str]:
    """Return what an operator wants to read about a launch; texts of strangers are bounded and of one line."""
    ref = launch.repo.ref
    told = {"repo": ref.url, "ref": ref.ref, "commit": launch.repo.commit, "rule": launch.grant.rule}
    annotations = {f"{names.LABEL}/{name}": _plain(text) for name, text in told.items()}
    return {**annotations, SERVER_ANNOTATION: f"{launch.user}/{launch.server}"}


def _plain(text: str) -> str:
    """Return `text` without what is not seen or turns what is around it, and no longer than anybody reads."""
    return "".join(each if each.isprintable() else "?" for each in text[:_ANNOTATION_LENGTH])


def namespace(launch: Launch, site: KubeSettings) -> Manifest:
    """Return the launch's own namespace; nothing but *restricted* pods may run in it."""
    labels = {**launch_labels(launch), "pod-security.kubernetes.io/enforce": "restricted"}
    metadata = {"name": site.namespace(launch), "labels": labels, "annotations": launch_annotations(launch)}
    return {"metadata": metadata}


def quota(launch: Launch, site: KubeSettings) -> Manifest:
    """Return the ResourceQuota of the launch's own namespace: what the grant says, all pods together."""
    allowed, server, dask = site.allowances, launch.grant.server, launch.grant.dask
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
        **{f"count/{kind}": str(clusters) for kind in site.cluster_kinds},
    }
    return {"metadata": _metadata("launch", launch), "spec": {"hard": hard}}


def limit_range(launch: Launch, site: KubeSettings) -> Manifest:
    """Return the bounds of one container, and what it gets that asks for nothing."""
    allowed, server, dask = site.allowances, launch.grant.server, launch.grant.dask
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


def network_policy(launch: Launch, site: KubeSettings) -> Manifest:
    """Return the launch's NetworkPolicy: its own pods, the services it was granted, and the internet; nobody else."""
    # a namespace of its own is closed as a whole, so that a pod without the label is closed in too
    mine = {"matchLabels": {names.LAUNCH_LABEL: launch.id}}
    spec = {
        "podSelector": mine if site.shared_namespace else {},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"from": [{"podSelector": mine}]}, *_ingress(site)],
        "egress": [{"to": [{"podSelector": mine}]}, *_egress(site)],
    }
    name = shared_name("launch", launch.id) if site.shared_namespace else "launch"
    # in a shared namespace the reaper learns from it whose it is
    return {"metadata": {**_metadata(name, launch), "annotations": launch_annotations(launch)}, "spec": spec}


def _ingress(site: KubeSettings) -> list[Manifest]:
    near, ports = site.neighbours, site.ports
    rules = [{"from": [_peer(site, near.hub), _peer(site, near.proxy)], "ports": _ports(ports.server)}]
    if near.gateway:
        rules.append({"from": [_peer(site, near.gateway)], "ports": _ports(*ports.scheduler)})
    return rules


def _egress(site: KubeSettings) -> list[Manifest]:
    near, ports = site.neighbours, site.ports
    dns = [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]
    servers = [{"ipBlock": {"cidr": network}} for network in site.dns_networks]
    rules: list[Manifest] = [
        {"to": [{"namespaceSelector": {"matchLabels": dict(site.dns)}}, *servers], "ports": dns},
        {"to": [_peer(site, near.hub)], "ports": _ports(ports.hub)},
        {"to": [_peer(site, near.storage)], "ports": _ports(ports.storage)},
    ]
    if site.internet:
        # IPv6 is closed as a whole, and an exception to IPv4 that is none would be refused
        blocked = sorted({*_NEVER, *(network for network in site.blocked_networks if ":" not in network)})
        rules.append({"to": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": blocked}}]})
    if near.gateway:
        rules.append({"to": [_peer(site, near.gateway)], "ports": _ports(*ports.gateway)})
    return rules


def _peer(site: KubeSettings, labels: Mapping[str, str]) -> Manifest:
    return {
        "namespaceSelector": {"matchLabels": {_NAMESPACE_NAME: site.release_namespace}},
        "podSelector": {"matchLabels": dict(labels)},
    }


def _ports(*ports: int) -> list[Manifest]:
    return [{"port": port, "protocol": "TCP"} for port in ports]


def secret(kind: str, launch: Launch, site: KubeSettings, variables: Mapping[str, str]) -> Manifest:
    """Return a Secret whose keys are environment variables of the launch's pods."""
    return {"metadata": _metadata(site.secret(kind, launch), launch), "stringData": dict(variables)}


def pull_secret(launch: Launch, site: KubeSettings) -> Manifest:
    """Return the Secret with which nodes pull the launch's image."""
    metadata = _metadata(site.secret("pull", launch), launch)
    return {
        "metadata": metadata,
        "type": "kubernetes.io/dockerconfigjson",
        "stringData": {".dockerconfigjson": site.pull_login},
    }


def role_binding(launch: Launch, binding: Binding) -> Manifest:
    """Return the RoleBinding that lets a service of the release work in the launch's own namespace, and in no other."""
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
