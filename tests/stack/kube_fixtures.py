"""Fixtures with real Kubernetes components: a control plane for objects, a cluster for running pods."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from .control_plane import ControlPlane
from .control_plane import control_plane as run_control_plane
from .images import image, system_archives
from .installed import (
    APART,
    OPERATED,
    OPERATOR,
    OPERATOR_CHART,
    OPERATOR_NAMESPACE,
    SHARED,
    Installed,
    helm,
    load_images,
)
from .installed import installed as run_installed
from .node import Cluster
from .node import cluster as run_cluster
from .tools import INSTALL_COMMAND, ClusterTools, ToolsMissing, tools
from .wildcard import names_below


@pytest.fixture(scope="session")
def cluster_tools() -> ClusterTools:
    """The programs of a cluster; without them, these tests are skipped with a message."""
    try:
        return tools()
    except ToolsMissing as error:
        if os.environ.get("PANGEO_BINDER_NEEDS_CLUSTER"):
            raise
        pytest.skip(f"LEFT OUT: no cluster here; install its parts with `{INSTALL_COMMAND}`: {error}")


@pytest.fixture(scope="session")
def control_plane(cluster_tools: ClusterTools, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A real API server with its controllers and scheduler, and no node."""
    with run_control_plane(cluster_tools, tmp_path_factory.mktemp("control-plane")) as plane:
        yield plane


@pytest.fixture(scope="session")
def cluster(cluster_tools: ClusterTools, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A real one-node cluster with a registry; only DNS runs on it. `load` adds images."""
    if os.geteuid() != 0:
        pytest.skip("LEFT OUT: a node needs root, for containers, bridges and packet filters")
    archives = system_archives(cluster_tools)
    with run_cluster(cluster_tools, tmp_path_factory.mktemp("cluster") / "node", archives) as running:
        yield running


@pytest.fixture(scope="session")
def notebook(cluster: Cluster) -> str:
    """The notebook image's reference; also loads the releases' images on the node."""
    return load_images(cluster)


@pytest.fixture(scope="session")
def installed(cluster: Cluster, notebook: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    """A ready release of the whole chart on the cluster."""
    with run_installed(cluster, tmp_path_factory.mktemp("release"), notebook) as release:
        yield release


@pytest.fixture(scope="session")
def installed_shared(cluster: Cluster, notebook: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    """A release whose launches share one namespace."""
    with run_installed(cluster, tmp_path_factory.mktemp("shared"), notebook, SHARED) as release:
        yield release


@pytest.fixture(scope="session")
def installed_apart(cluster: Cluster, notebook: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    """A release whose sessions each have a host of their own, below `binder.test`."""
    folder = tmp_path_factory.mktemp("apart")
    with names_below("binder.test", cluster.address), run_installed(cluster, folder, notebook, APART) as release:
        yield release


@pytest.fixture(scope="session")
def installed_operated(
    cluster: Cluster, notebook: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installed]:
    """A release that uses the dask-kubernetes operator, which its own chart installs, for Dask clusters."""
    name, tag = image("operator").rsplit(":", 1)
    own = [f"--set=image.name={name}", f"--set=image.tag={tag}", "--set=image.pullPolicy=Never"]
    helm(cluster, OPERATOR_NAMESPACE, "upgrade", "--install", OPERATOR, OPERATOR_CHART, *own)
    with run_installed(cluster, tmp_path_factory.mktemp("operated"), notebook, OPERATED) as release:
        yield release
