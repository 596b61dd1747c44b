"""Runs the storage service for the local profile."""

from __future__ import annotations

import sys

from ...logs import install
from ...loopback import LOOPBACK, LOOPBACK_NAMES
from ...storage.app import AdminCaller, Right, StorageSettings, run
from .values import read_values


def settings(state_dir: str) -> StorageSettings:
    """Return the settings of the stack at `state_dir`."""
    values = read_values(state_dir)
    secrets = values.secrets
    return StorageSettings(
        state_dir=values.folder("storage"),
        data_host=LOOPBACK,
        data_port=values.ports.storage,
        admin_host=LOOPBACK,
        admin_port=values.ports.storage_admin,
        public_endpoint=f"http://{LOOPBACK}:{values.ports.storage}",
        master_key=secrets.storage_master_key,
        admin_callers=(
            AdminCaller(secrets.storage_hub_token, frozenset({Right.ISSUE})),
            AdminCaller(secrets.storage_gateway_token, frozenset({Right.ENVIRONMENT})),
            AdminCaller(secrets.storage_status_token, frozenset({Right.LOOK})),
        ),
        hosts=LOOPBACK_NAMES,
        hub_api_url=values.hub_api,
        hub_api_token=secrets.storage_service_token,
    )


if __name__ == "__main__":
    install("storage", "WARNING")  # a session's notebook can make a thousand requests in a second
    run(settings(sys.argv[1]))
