"""The chart with stand-ins for the charts it depends on, and helm to render and install it."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.stack.control_plane import ControlPlane
from tests.stack.installed import DEPENDENCIES
from tests.stack.kube_fixtures import cluster_tools, control_plane
from tests.stack.tools import ClusterTools

__all__ = ["chart", "cluster_tools", "control_plane", "helm", "plane"]

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent
_VERSION = "1.34.0"
CONNECTED = HERE / "connected.yaml"
"""Values for a rendering without a cluster."""


@pytest.fixture(scope="session")
def chart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the chart that contains its dependencies."""
    copy = tmp_path_factory.mktemp("chart") / "pangeo-binder"
    shutil.copytree(ROOT / "helm-chart" / "pangeo-binder", copy, ignore=shutil.ignore_patterns("charts"))
    shutil.copytree(DEPENDENCIES, copy / "charts")
    return copy


@dataclass(frozen=True, slots=True)
class Helm:
    """The real helm, with the chart."""

    tools: ClusterTools
    chart: Path

    def run(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Run helm and return the result."""
        command = [self.tools.helm, *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    def template(self, *arguments: str | Path, release: str = "binder") -> list[dict[str, Any]]:
        """Return the manifests of a release in a namespace of the same name."""
        common = ["-n", release, "--kube-version", _VERSION, "-f", CONNECTED]
        done = self.run("template", release, self.chart, *common, *arguments)
        assert done.returncode == 0, done.stderr
        return [each for each in yaml.safe_load_all(done.stdout) if each]


@pytest.fixture(scope="session")
def helm(cluster_tools: ClusterTools, chart: Path) -> Helm:
    """Return helm with the chart."""
    return Helm(cluster_tools, chart)


@pytest.fixture(scope="session")
def plane(control_plane: ControlPlane) -> ControlPlane:
    """Return the control plane with the EndpointSlice that an API server makes unless it serves on loopback only."""
    control_plane.apply(
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": "kubernetes",
                "namespace": "default",
                "labels": {"kubernetes.io/service-name": "kubernetes"},
            },
            "addressType": "IPv4",
            "endpoints": [{"addresses": ["192.0.2.10"]}, {"addresses": ["192.0.2.11"]}],
            "ports": [{"name": "https", "port": 6443, "protocol": "TCP"}],
        }
    )
    return control_plane
