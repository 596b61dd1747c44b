"""Tests on real Kubernetes components."""

from tests.stack.kube_fixtures import cluster_tools, control_plane

__all__ = ["cluster_tools", "control_plane"]
