"""Every role at the hub, with the fewest scopes that its work needs.

Pure data for the hub's configuration. Scopes: https://jupyterhub.readthedocs.io/en/stable/rbac/scopes.html
"""

from __future__ import annotations

from typing import Any

BINDER = "binder"
GATEWAY = "dask-gateway"
LAUNCHES = "launches"
"""The service as which the hub itself ends a launch's clusters."""
NAMESPACES = "namespaces"
"""The service that removes the objects launches left in Kubernetes."""
STATUS = "status"
"""The service as which the command `status` lists servers and clusters."""

ADMISSION_SCOPE = "custom:pangeo-binder:admission"
MAKE_USERS_SCOPE, DELETE_USERS_SCOPE = (f"custom:pangeo-binder:{what}-anonymous-users" for what in ("make", "delete"))
CUSTOM_SCOPES = {
    ADMISSION_SCOPE: {"description": "Reserve, renew and release seats for launches."},
    MAKE_USERS_SCOPE: {"description": "Make users of anonymous launches."},
    DELETE_USERS_SCOPE: {"description": "Delete users of anonymous launches."},
}
"""As `JupyterHub.custom_scopes` takes them; `admission_api` and `user_api` define them."""

_GATEWAY_ACCESS = f"access:services!service={GATEWAY}"
_LOGIN_SCOPES = (f"access:services!service={BINDER}", "tokens!user")
"""What people need to use the binder, in a browser and with tokens that they make for their programs."""

USER_SCOPES = ("users:activity!user", "access:servers!user", "read:users:name!user", "read:users:groups!user")
"""Not the stock `self`, which would let a user restart a server with options other than the ticket's."""

SERVER_TOKEN_SCOPES = ["users:activity!user", "access:servers!server", _GATEWAY_ACCESS]
"""`access:servers!server=user/name` also identifies the launch that sends a request to the gateway."""

_SERVICES: dict[str, tuple[str, ...]] = {
    # not admin:users or delete:users, which would be for people's accounts too
    BINDER: (
        "start:servers",
        "delete:servers",
        "read:servers",
        "list:users",
        "read:users:name",
        ADMISSION_SCOPE,
        MAKE_USERS_SCOPE,
        DELETE_USERS_SCOPE,
    ),
    GATEWAY: ("read:users:name", "read:servers", "admin:server_state"),
    "storage": ("read:users:name", "read:servers"),
    "culler": (
        "list:users",
        "read:users:activity",
        "read:servers",
        "admin:server_state",
        "delete:servers",
        DELETE_USERS_SCOPE,
    ),
    LAUNCHES: (_GATEWAY_ACCESS,),
    STATUS: ("list:users", "read:users:activity", "read:servers", _GATEWAY_ACCESS),
}


_ON_KUBERNETES: dict[str, tuple[str, ...]] = {NAMESPACES: ("read:users:name", "read:servers")}


def roles(on_kubernetes: bool = False, logins: bool = False) -> list[dict[str, Any]]:
    """Return all roles in the form of `JupyterHub.load_roles`; they replace the stock role `user`.

    The hub knows only configured services, so roles of Kubernetes' own services come only with `on_kubernetes`. With
    `logins`, people may sign in to the binder.
    """
    user = {"name": "user", "scopes": [*USER_SCOPES, _GATEWAY_ACCESS, *(_LOGIN_SCOPES if logins else ())]}
    return [user] + [
        {"name": f"pangeo-binder-{service}", "services": [service], "scopes": list(scopes)}
        for service, scopes in {**_SERVICES, **(_ON_KUBERNETES if on_kubernetes else {})}.items()
    ]
