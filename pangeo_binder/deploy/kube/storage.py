"""Runs the storage service on Kubernetes."""

from __future__ import annotations

import logging

from ...storage.app import AdminCaller, Right, StorageSettings, run
from .values import STATE, STORAGE_ADMIN_PORT, STORAGE_PORT, read_secret, read_values

_EVERYWHERE = "0.0.0.0"  # noqa: S104 - a pod's own address; NetworkPolicies say who reaches it


def settings() -> StorageSettings:
    """Return the service's settings. Workers get a launch's variables from Kubernetes, so the gateway asks nothing."""
    values = read_values()
    return StorageSettings(
        state_dir=STATE,
        data_host=_EVERYWHERE,
        data_port=STORAGE_PORT,
        admin_host=_EVERYWHERE,
        admin_port=STORAGE_ADMIN_PORT,
        public_endpoint=values.address("storage", STORAGE_PORT),
        master_key=read_secret("master-key"),
        admin_callers=(
            AdminCaller(read_secret("vend-token"), frozenset({Right.VEND})),
            AdminCaller(read_secret("look-token"), frozenset({Right.LOOK})),
        ),
        hub_api_url=f"{values.hub_url}/hub/api",
        hub_api_token=read_secret("hub-token"),
    )


def main() -> None:
    """Run the service until SIGTERM."""
    logging.basicConfig(level=read_values().log_level, format="%(levelname)s %(name)s: %(message)s")
    run(settings())


if __name__ == "__main__":
    main()
