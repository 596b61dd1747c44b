"""Who may do what at the hub: every role, with the fewest scopes it can do its work with.

Pure data, used by the hub's configuration. Scopes: https://jupyterhub.readthedocs.io/en/stable/rbac/scopes.html
"""

from __future__ import annotations

from typing import Any

GATEWAY = "dask-gateway"
LAUNCHES = "launches"
"""The service in whose name the hub itself ends a launch's clusters."""
NAMESPACES = "namespaces"
"""The service that removes what launches left in Kubernetes."""
STATUS = "status"
"""The service in whose name the operator's command looks at what runs."""

ADMISSION_SCOPE = "custom:pangeo-binder:admission"
CUSTOM_SCOPES = {ADMISSION_SCOPE: {"description": "Reserve, renew and release seats for launches."}}
"""As `JupyterHub.custom_scopes` takes them; `admission_api` defines them."""

_GATEWAY_ACCESS = f"access:services!service={GATEWAY}"

USER_SCOPES = ("users:activity!user", "access:servers!user", "read:users:name!user", "read:users:groups!user")
"""Not the stock `self`: with it a user could start a server again with other options than the ticket's."""

SERVER_TOKEN_SCOPES = ["users:activity!user", "access:servers!server", _GATEWAY_ACCESS]
"""`access:servers!server=user/name` is also how the gateway knows which launch speaks."""

_SERVICES: dict[str, tuple[str, ...]] = {
    # creating users has no smaller scope than admin:users
    "binder": ("admin:users", "start:servers", "delete:servers", "read:servers", "list:users", ADMISSION_SCOPE),
    GATEWAY: ("read:users:name", "read:servers", "admin:server_state"),
    "storage": ("read:users:name", "read:servers"),
    "culler": (
        "list:users",
        "read:users:activity",
        "read:servers",
        "admin:server_state",
        "delete:servers",
        "delete:users",
    ),
    LAUNCHES: (_GATEWAY_ACCESS,),
    STATUS: ("list:users", "read:users:activity", "read:servers", _GATEWAY_ACCESS),
}


_ON_KUBERNETES: dict[str, tuple[str, ...]] = {NAMESPACES: ("read:users:name", "read:servers")}


def roles(on_kubernetes: bool = False) -> list[dict[str, Any]]:
    """Return all roles as `JupyterHub.load_roles` takes them; replaces the stock role `user`.

    The hub knows only services it was told of, so those `on_kubernetes` are named there alone.
    """
    user = {"name": "user", "scopes": [*USER_SCOPES, _GATEWAY_ACCESS]}
    return [user] + [
        {"name": f"pangeo-binder-{service}", "services": [service], "scopes": list(scopes)}
        for service, scopes in {**_SERVICES, **(_ON_KUBERNETES if on_kubernetes else {})}.items()
    ]
