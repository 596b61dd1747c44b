"""The part of JupyterHub's API at which users of anonymous launches are made and deleted.

JupyterHub's own scopes for that, `admin:users` and `delete:users`, are for every account. With these handlers no
service of ours can make, change or delete the account of a person. Runs in the hub.
"""

from __future__ import annotations

from typing import Any

from jupyterhub.apihandlers.users import UserAPIHandler
from jupyterhub.scopes import define_custom_scopes, needs_scope
from jupyterhub.user import User
from jupyterhub.utils import utcnow
from tornado.web import HTTPError

from ..names import is_anonymous_user
from .roles import CUSTOM_SCOPES, DELETE_USERS_SCOPE, MAKE_USERS_SCOPE
from .tokens import ServiceHandler

# JupyterHub defines the scopes of its configuration later than `needs_scope` looks for them
define_custom_scopes(CUSTOM_SCOPES)


class AnonymousUserHandler(ServiceHandler, UserAPIHandler):
    """Handler of one user, which makes and deletes it as JupyterHub does."""

    @needs_scope(MAKE_USERS_SCOPE)
    async def post(self, name: str) -> None:
        await UserAPIHandler.post.__wrapped__(self, _checked(name))

    @needs_scope(DELETE_USERS_SCOPE)
    async def delete(self, name: str) -> None:
        """Delete a user; with `unused_seconds`, not one that has a server or was seen or made within that time."""
        user, seconds = self.find_user(_checked(name)), self.get_query_argument("unused_seconds", "")
        if seconds and user is not None and not _is_unused(user, seconds):
            raise HTTPError(409, "This user's launch is under way.")
        await UserAPIHandler.delete.__wrapped__(self, name)

    def get(self, name: str) -> None:
        """Refuse: JupyterHub's own handlers read and change users, by their own scopes."""
        raise HTTPError(405)

    patch = put = get


def _checked(name: str) -> str:
    if not is_anonymous_user(name):
        raise HTTPError(403, "Only users of anonymous launches are made and deleted here.")
    return name


def _is_unused(user: User, seconds: str) -> bool:
    if not seconds.isdecimal():
        raise HTTPError(400, "unused_seconds is a number.")
    seen = user.last_activity or user.created  # no activity is known before the first request of a server
    age = utcnow(with_tz=False) - seen.replace(tzinfo=None)
    return not user.active and age.total_seconds() >= int(seconds)


def user_handlers() -> list[tuple[Any, ...]]:
    """Return the handler as `JupyterHub.extra_handlers` takes it."""
    return [(r"/api/pangeo-binder/users/([^/]+)", AnonymousUserHandler)]
