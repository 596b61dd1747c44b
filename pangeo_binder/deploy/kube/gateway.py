"""Configures and runs dask-gateway's API server on Kubernetes: the entry point of its image.

dask-gateway's chart writes the server's configuration file itself and cannot mount another, so the application applies
this configuration after that file.
"""

from __future__ import annotations

import sys
from typing import Any

from traitlets.config import Config

from ...gateway.auth import LaunchAuthenticator
from ...gateway.kube.backend import KubeLaunchBackend
from ...gateway.server import LaunchGateway
from .values import read_values

_PROGRAM = "dask-gateway-server"


def configure(c: Any) -> None:
    """Configure the gateway's API server; the chart's settings for the stock classes also apply to our subclasses."""
    values = read_values()
    site = values.site
    c.DaskGateway.backend_class = KubeLaunchBackend
    c.DaskGateway.authenticator_class = LaunchAuthenticator
    c.LaunchAuthenticator.jupyterhub_api_url = f"{values.hub_url}/hub/api"
    backend = c.KubeLaunchBackend
    # schedulers report from their launch's namespace, where the chart's short name does not resolve
    backend.api_url = f"{values.gateway_api_url}/api"
    backend.namespace_prefix = values.launches.prefix
    backend.shared_namespace = site.shared_namespace
    backend.pull_login = values.launches.pull_login
    backend.tier_pods = values.tier_pods(site.priority_classes.dask)
    cluster, scheduler = c.LaunchClusterConfig, values.dask.scheduler
    cluster.scheduler_cores, cluster.scheduler_cores_limit = scheduler.cpu, scheduler.cpu_limit
    cluster.scheduler_memory = cluster.scheduler_memory_limit = scheduler.memory_bytes


class ConfiguredGateway(LaunchGateway):
    """dask-gateway's API server with our configuration applied over its file."""

    def load_config_file(self, filename: str, path: Any = None) -> None:
        """Load the chart's file, then apply our configuration."""
        super().load_config_file(filename, path)
        ours = Config()
        configure(ours)
        self.update_config(ours)


def main() -> None:
    """Run the server with the chart's arguments, of which the first may be the name of the stock program."""
    arguments = sys.argv[1:]
    ConfiguredGateway.launch_instance(arguments[1:] if arguments[:1] == [_PROGRAM] else arguments)


if __name__ == "__main__":
    main()
