"""Runs the storage service on Kubernetes."""

from __future__ import annotations

import socket
import time

from ...logs import install
from ...storage.app import AdminCaller, Right, StorageSettings, run
from .values import STATE, STORAGE_ADMIN_PORT, STORAGE_PORT, read_secret, read_values

_EVERYWHERE = "0.0.0.0"  # noqa: S104 - inside a pod; NetworkPolicies restrict who can connect


_RESOLVE_SECONDS, _RESOLVE_TRIES = 2, 30


def settings(address: str) -> StorageSettings:
    """Return the service's settings; sessions reach its data port at the IP `address`.

    Workers get a launch's variables from Kubernetes, so the gateway needs no token.
    """
    values = read_values()
    host = f"[{address}]" if ":" in address else address
    return StorageSettings(
        state_dir=STATE,
        data_host=_EVERYWHERE,
        data_port=STORAGE_PORT,
        admin_host=_EVERYWHERE,
        admin_port=STORAGE_ADMIN_PORT,
        public_endpoint=f"http://{host}:{STORAGE_PORT}",
        master_key=read_secret("master-key"),
        admin_callers=(
            AdminCaller(read_secret("issue-token"), frozenset({Right.ISSUE})),
            AdminCaller(read_secret("look-token"), frozenset({Right.LOOK})),
        ),
        hub_api_url=f"{values.hub_url}/hub/api",
        hub_api_token=read_secret("hub-token"),
    )


def service_address(name: str) -> str:
    """Return the IP address of a Service, which never changes; wait until the cluster's DNS knows it.

    boto3 requests `<bucket>.<host>` if the host is a name, which the cluster's DNS does not know, but `<host>/<bucket>`
    if it is an IP address. A file could change this, as in the local profile, but every environment would need it.
    Raises OSError.
    """
    for _ in range(_RESOLVE_TRIES):
        try:
            return str(socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)[0][4][0])
        except socket.gaierror:
            time.sleep(_RESOLVE_SECONDS)
    raise OSError(f"The cluster's DNS does not know {name}")


def main() -> None:
    """Run the service until SIGTERM."""
    install("storage", read_values().log_level)
    run(settings(service_address(f"storage.{read_values().site.namespace}.svc")))


if __name__ == "__main__":
    main()
