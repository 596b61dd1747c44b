"""The test cluster itself: it runs pods, resolves names, pulls from its registry, and enforces NetworkPolicies."""

from __future__ import annotations

from typing import Any

import pytest

from tests.stack.images import base_archive
from tests.stack.node import Cluster

_TRIES = 10
_ANSWER = "from http.server import *; HTTPServer(('', 8000), SimpleHTTPRequestHandler).serve_forever()"


def _pod(name: str, namespace: str, image: str, command: list[str]) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": name}},
        "spec": {"containers": [{"name": "c", "image": image, "command": command}], "terminationGracePeriodSeconds": 0},
    }


@pytest.fixture(scope="module")
def pods(cluster: Cluster) -> str:
    """Two pods of an image from the registry; by the namespace's policy only `front` can be reached."""
    image = cluster.push(base_archive(), "base:1")
    answer = ["python3", "-c", _ANSWER]
    service = {"selector": {"app": "front"}, "ports": [{"port": 80, "targetPort": 8000}]}
    meta = {"name": "front", "namespace": "net"}
    open_front = {"podSelector": {"matchLabels": {"app": "front"}}, "policyTypes": ["Ingress"], "ingress": [{}]}
    policy = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy"}
    cluster.apply(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "net"}},
        policy | {"metadata": {"name": "deny", "namespace": "net"}, "spec": {"podSelector": {}}},
        policy | {"metadata": meta, "spec": open_front},
        {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": service},
    )
    cluster.apply(_pod("front", "net", image, answer), _pod("back", "net", image, answer))
    cluster.kubectl("wait", "-n", "net", "pod/front", "pod/back", "--for=condition=Ready", "--timeout=120s")
    return cluster.kubectl("get", "pod", "back", "-n", "net", "-o", "jsonpath={.status.podIP}").strip()


def _reaches(cluster: Cluster, url: str) -> bool:
    code = f"import urllib.request as u; print(u.urlopen('{url}', timeout=4).status)"
    return "200" in cluster.kubectl("exec", "-n", "net", "front", "--", "python3", "-c", code, check=False)


def test_services_are_resolved_and_reached(cluster: Cluster, pods: str) -> None:
    assert _until_reached(cluster, "http://front.net.svc.cluster.local/etc/hostname")


def test_network_policies_are_enforced(cluster: Cluster, pods: str) -> None:
    assert _until_closed(cluster, f"http://{pods}:8000/etc/hostname")
    cluster.kubectl("delete", "networkpolicy", "deny", "-n", "net")
    assert _until_reached(cluster, f"http://{pods}:8000/etc/hostname")


def _until_reached(cluster: Cluster, url: str) -> bool:
    """Retry for a while: a Service and a policy take effect some time after the pod is ready."""
    return any(_reaches(cluster, url) for _ in range(_TRIES))


def _until_closed(cluster: Cluster, url: str) -> bool:
    return any(not _reaches(cluster, url) for _ in range(_TRIES))
