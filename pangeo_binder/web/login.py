"""The login by one token, for a binder on loopback, which all users of a machine can reach.

The token comes in the address (`?token=`), in a form, or in the header Authorization; browsers keep a cookie derived
from it. Off if the token is empty. Not for sessions, which have tokens of their own. Binder process.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final
from urllib.parse import unquote_plus

from tornado.httputil import HTTPServerRequest

from ..errors import UserError

PARAMETER: Final = "token"
_SCHEMES: Final = ("token", "bearer")
"""Jupyter's scheme, and the one that BinderHub's own client sends."""
_NAME_LENGTH: Final = 12


class LoginRequired(UserError):
    """The request has no valid token."""

    status, reason = 403, "login_required"

    def __init__(self, message: str = "This binder needs a token.") -> None:
        super().__init__(message, "`pangeo-binder up` printed an address with the token. Open it, or enter the token.")


class Login:
    """The check of the token. An empty `token` accepts every request."""

    def __init__(self, token: str) -> None:
        self._token = token
        self.cookie_name = f"pangeo-binder-{self._derive('name')[:_NAME_LENGTH]}"
        """A name of this token's own: browsers send cookies to all ports of a host, so two binders would share one."""
        self.cookie_value = self._derive("value")

    def _derive(self, purpose: str) -> str:
        return hmac.new(self._token.encode(), f"pangeo-binder/login/{purpose}".encode(), hashlib.sha256).hexdigest()

    def accepts(self, token: str) -> bool:
        """Return whether `token` is the token, in a time that does not depend on it; never if there is none."""
        return bool(self._token) and _is_equal(token, self._token)

    def check(self, request: HTTPServerRequest) -> None:
        """Raise LoginRequired if `request` has neither the header nor the cookie."""
        if not self._token:
            return
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() in _SCHEMES and self.accepts(token.strip()):
            return
        cookie = request.cookies.get(self.cookie_name)
        if cookie is None or not _is_equal(cookie.value, self.cookie_value):
            raise LoginRequired


def _is_equal(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), expected.encode())


def without_token(path: str, query: str) -> str:
    """Return the address of `path` and `query` on this host, without the token and otherwise unchanged.

    A browser would read more than one slash or backslash at the start as another host.
    """
    kept = "&".join(part for part in query.split("&") if unquote_plus(part.partition("=")[0]) != PARAMETER)
    return "/" + path.lstrip("/\\") + (f"?{kept}" if kept else "")
