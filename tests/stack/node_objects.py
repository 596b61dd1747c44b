"""The configuration of a test node, and the objects that its cluster needs. Pure."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .control_plane import PODS

DNS_ADDRESS = "10.96.0.10"
PAUSE_IMAGE = "cluster.test/pause:1"
DNS_IMAGE = "cluster.test/coredns:1"


def containerd_config(node: Path, registry: str) -> str:
    """Return containerd's configuration, and write the pod network's and the registry's into `node`."""
    network = {
        "cniVersion": "0.4.0",
        "name": "pods",
        "plugins": [
            {
                "type": "bridge",
                "bridge": "pods0",
                "isGateway": True,
                "ipMasq": True,
                "hairpinMode": True,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{"subnet": PODS.replace(".0.0/16", ".0.0/24")}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": True}},
        ],
    }
    (node / "cni").mkdir()
    (node / "cni" / "10-pods.conflist").write_text(json.dumps(network))
    (node / "registries" / registry).mkdir(parents=True)
    (node / "registries" / registry / "hosts.toml").write_text(
        f'server = "http://{registry}"\n[host."http://{registry}"]\n'
    )
    cri = "io.containerd.grpc.v1.cri"
    return f'''
version = 2
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.aufs", "io.containerd.internal.v1.tracing"]
[plugins."{cri}"]
  sandbox_image = "{PAUSE_IMAGE}"
  disable_apparmor = true
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
[plugins."{cri}".cni]
  bin_dir = "/usr/lib/cni"
  conf_dir = "{node}/cni"
[plugins."{cri}".registry]
  config_path = "{node}/registries"
'''  # noqa: E501


def kubelet_config(authority: Path, cgroup: str) -> dict[str, Any]:
    """Return the kubelet's configuration."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {"anonymous": {"enabled": False}, "x509": {"clientCAFile": str(authority)}},
        "authorization": {"mode": "Webhook"},
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": cgroup,
        "clusterDNS": [DNS_ADDRESS],
        "clusterDomain": "cluster.local",
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "failSwapOn": False,
        # the disk belongs to the machine, so its usage must not evict the tests' pods
        "evictionHard": {"memory.available": "200Mi"},
        "imageGCHighThresholdPercent": 100,
        "serializeImagePulls": False,
        "maxPods": 110,
        "registryPullQPS": 0,
        "resolvConf": "/etc/resolv.conf",
    }


def dns_objects() -> tuple[dict[str, Any], ...]:
    """Return the cluster's DNS, with the usual names and labels so that NetworkPolicies match."""
    labels = {"k8s-app": "kube-dns"}
    meta = {"name": "coredns", "namespace": "kube-system"}
    corefile = ".:53 {\n ready\n errors\n cache 5\n kubernetes cluster.local in-addr.arpa {\n  ttl 2\n }\n}\n"
    rules = [
        {"apiGroups": [""], "resources": ["services", "pods", "namespaces"], "verbs": ["list", "watch"]},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
    ]
    rbac = "rbac.authorization.k8s.io"
    return (
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta},
        {"apiVersion": f"{rbac}/v1", "kind": "ClusterRole", "metadata": {"name": "coredns"}, "rules": rules},
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "coredns"},
            "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": "coredns"},
            "subjects": [{"kind": "ServiceAccount", **meta}],
        },
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"Corefile": corefile}},
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": _dns_deployment(labels)},
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "kube-dns", "namespace": "kube-system", "labels": labels},
            "spec": {
                "clusterIP": DNS_ADDRESS,
                "selector": labels,
                "ports": [
                    {"name": f"dns-{protocol.lower()}", "port": 53, "protocol": protocol} for protocol in ("UDP", "TCP")
                ],
            },
        },
    )


def _dns_deployment(labels: dict[str, str]) -> dict[str, Any]:
    container = {
        "name": "coredns",
        "image": DNS_IMAGE,
        "imagePullPolicy": "Never",
        "args": ["-conf", "/etc/coredns/Corefile"],
        "volumeMounts": [{"name": "config", "mountPath": "/etc/coredns"}],
        "readinessProbe": {"httpGet": {"path": "/ready", "port": 8181}, "periodSeconds": 1},
        # without a share of the processor it answers too late while builds and sessions use all of it
        "resources": {"requests": {"cpu": "50m", "memory": "70Mi"}},
    }
    return {
        "selector": {"matchLabels": labels},
        "template": {
            "metadata": {"labels": labels},
            "spec": {
                "serviceAccountName": "coredns",
                "dnsPolicy": "Default",
                "containers": [container],
                "volumes": [{"name": "config", "configMap": {"name": "coredns"}}],
            },
        },
    }
