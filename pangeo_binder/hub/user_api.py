"""The part of JupyterHub's API at which users of anonymous launches are made and deleted.

JupyterHub's own scopes for that, `admin:users` and `delete:users`, are for every account. With these handlers no
service of ours can make, change or delete the account of a person. Runs in the hub.
"""

from __future__ import annotations

from typing import Any

from jupyterhub.apihandlers.users import UserAPIHandler
from jupyterhub.scopes import define_custom_scopes, needs_scope
from tornado.web import HTTPError

from ..names import is_anonymous_user
from .roles import CUSTOM_SCOPES, DELETE_USERS_SCOPE, MAKE_USERS_SCOPE

# JupyterHub defines the scopes of its configuration later than `needs_scope` looks for them
define_custom_scopes(CUSTOM_SCOPES)


class AnonymousUserHandler(UserAPIHandler):
    """Handler of one user, which makes and deletes it as JupyterHub does."""

    @needs_scope(MAKE_USERS_SCOPE)
    async def post(self, name: str) -> None:
        await UserAPIHandler.post.__wrapped__(self, _checked(name))

    @needs_scope(DELETE_USERS_SCOPE)
    async def delete(self, name: str) -> None:
        await UserAPIHandler.delete.__wrapped__(self, _checked(name))

    def get(self, name: str) -> None:
        """Refuse: JupyterHub's own handlers read and change users, by their own scopes."""
        raise HTTPError(405)

    patch = put = get


def _checked(name: str) -> str:
    if not is_anonymous_user(name):
        raise HTTPError(403, "Only users of anonymous launches are made and deleted here.")
    return name


def user_handlers() -> list[tuple[Any, ...]]:
    """Return the handler as `JupyterHub.extra_handlers` takes it."""
    return [(r"/api/pangeo-binder/users/([^/]+)", AnonymousUserHandler)]
