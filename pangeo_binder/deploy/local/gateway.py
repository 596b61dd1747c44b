"""Configures dask-gateway for the local profile."""

from __future__ import annotations

import base64
from typing import Any

from ...gateway.auth import LaunchAuthenticator
from ...gateway.local import LocalLaunchBackend
from ...loopback import LOOPBACK
from .values import GATEWAY_PREFIX, read_values


def configure(c: Any, state_dir: str) -> None:
    """Configure the gateway of the stack at `state_dir`."""
    values = read_values(state_dir)
    c.DaskGateway.backend_class = LocalLaunchBackend
    c.DaskGateway.authenticator_class = LaunchAuthenticator
    c.DaskGateway.address = f"{LOOPBACK}:{values.ports.gateway_api}"
    c.Proxy.address = f"{LOOPBACK}:{values.ports.gateway}"
    c.Proxy.tcp_address = f"{LOOPBACK}:{values.ports.gateway_scheduler}"
    c.Proxy.prefix = GATEWAY_PREFIX
    # `data_path` starts it, so that clients stay connected to their schedulers while the gateway restarts
    c.Proxy.externally_managed = True
    c.Proxy.api_token = values.secrets.gateway_proxy_token
    backend = c.LocalLaunchBackend
    backend.state_dir = str(values.state_dir)
    backend.homes = str(values.folder("homes"))
    backend.clusters_directory = str(values.folder("clusters"))
    backend.storage_url = values.storage_admin_url
    backend.storage_token = values.secrets.storage_gateway_token
    # after a restart, the gateway finds its clusters only with a file database and the same key
    backend.db_url = f"sqlite:///{values.folder('run')}/gateway.sqlite"
    key = bytes.fromhex(values.secrets.gateway_encrypt_key)
    backend.db_encrypt_keys = [base64.urlsafe_b64encode(key)]
    backend.stop_clusters_on_shutdown = False
    backend.inherited_environment = ["LANG", "LC_ALL", "TZ"]
    # kill processes that ignore signals well within the 30 s after which a cluster must be gone
    backend.sigint_timeout = 5
    backend.sigterm_timeout = 3
    # twenty schedulers that start at once on two cores need more time than dask-gateway's default of 60 s
    backend.cluster_start_timeout = backend.worker_start_timeout = 180
    c.LaunchAuthenticator.jupyterhub_api_url = values.hub_api
