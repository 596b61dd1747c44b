"""Configures logins: the binder as an OAuth client, who may use it, and names that no person may have.

The authenticator itself is the operator's, of JupyterHub or any other. Runs in the hub.
"""

from __future__ import annotations

from typing import Any

from tornado.web import HTTPError

from ..names import is_anonymous_user
from .roles import BINDER

CLIENT: dict[str, Any] = {
    "oauth_client_id": f"service-{BINDER}",
    # a path: the hub's pages have the binder's host
    "oauth_redirect_uri": "/oauth_callback",
    # the binder belongs to the operator, so nobody has to agree to it
    "oauth_no_confirm": True,
}
"""What the binder's service has to have, in the form of `JupyterHub.services`."""


def configure_logins(c: Any) -> None:
    """Refuse names of anonymous users, and show people the binder's own pages after a login at the hub."""
    c.Authenticator.post_auth_hook = refuse_anonymous
    c.JupyterHub.default_url = "/sessions"
    c.JupyterHub.redirect_to_server = False


async def refuse_anonymous(authenticator: Any, handler: Any, model: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return the authenticator's `model`. Raises HTTPError for a name that users of anonymous launches have.

    Such a user is deleted after its launch.
    """
    if model is not None and is_anonymous_user(str(model.get("name", ""))):
        raise HTTPError(403, "A login name of this form is not possible here.")
    return model
