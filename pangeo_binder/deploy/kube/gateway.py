"""Configures dask-gateway's API server on Kubernetes, and runs it: the entry point of its image.

dask-gateway's chart writes the server's configuration file itself and lets nothing else be mounted, so this is applied
after that file, by the application.
"""

from __future__ import annotations

import sys
from typing import Any

from dask_gateway_server.app import DaskGateway
from traitlets.config import Config

from ...gateway.auth import LaunchAuthenticator
from ...gateway.kube.backend import KubeLaunchBackend
from .values import read_values

_PROGRAM = "dask-gateway-server"


def configure(c: Any) -> None:
    """Configure the gateway's API server; what dask-gateway's chart sets for its stock classes holds for ours too."""
    values = read_values()
    site = values.site
    c.DaskGateway.backend_class = KubeLaunchBackend
    c.DaskGateway.authenticator_class = LaunchAuthenticator
    c.LaunchAuthenticator.jupyterhub_api_url = f"{values.hub_url}/hub/api"
    backend = c.KubeLaunchBackend
    # schedulers report to it from their launch's namespace, where the chart's short name means nothing
    backend.api_url = f"{values.gateway_api_url}/api"
    backend.namespace_prefix = values.launches.prefix
    backend.shared_namespace = site.shared_namespace
    backend.pull_login = values.launches.pull_login
    backend.tier_pods = values.tier_pods(site.priority_classes.dask)
    cluster, scheduler = c.LaunchClusterConfig, values.dask.scheduler
    cluster.scheduler_cores, cluster.scheduler_cores_limit = scheduler.cpu, scheduler.cpu_limit
    cluster.scheduler_memory = cluster.scheduler_memory_limit = scheduler.memory_bytes


class ConfiguredGateway(DaskGateway):
    """dask-gateway's API server with our configuration on top of its file's."""

    def load_config_file(self, filename: str, path: Any = None) -> None:
        """Load the chart's file, then ours over it."""
        super().load_config_file(filename, path)
        ours = Config()
        configure(ours)
        self.update_config(ours)


def main() -> None:
    """Run it with the arguments that dask-gateway's chart gives, of which the first may be the stock program's name."""
    arguments = sys.argv[1:]
    ConfiguredGateway.launch_instance(arguments[1:] if arguments[:1] == [_PROGRAM] else arguments)


if __name__ == "__main__":
    main()
