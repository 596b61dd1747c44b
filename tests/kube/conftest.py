"""Tests on real Kubernetes components."""

from tests.stack.kube_fixtures import cluster, cluster_tools, control_plane, installed

__all__ = ["cluster", "cluster_tools", "control_plane", "installed"]
