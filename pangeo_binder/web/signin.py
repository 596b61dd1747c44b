"""Who sent a request, and the cookies of a login: the binder's half of OAuth's dialogue, without its pages.

Binder process. The pages are in `accounts`; `people` makes the cookies' content, and `oauth` asks the hub.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from http.cookies import Morsel
from typing import Final

from tornado.httputil import HTTPServerRequest
from tornado.web import RequestHandler

from ..errors import LoginNeeded, NotAllowed
from .context import People
from .oauth import HubLogin
from .people import LOGIN_SECONDS, STATE_SECONDS, LoginFailed, LoginState, Person, Seals, is_equal

CSRF: Final = "csrf"
"""The field of our forms with the token of their login."""
_SCHEMES: Final = ("token", "bearer")
_NONCE: Final = re.compile(r"[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, slots=True)
class SignedIn:
    """The sender of a request."""

    person: Person
    csrf: str = ""
    """What the forms of the person's pages send; empty for a program with a token, which has no cookie."""


class SignIn:
    """Logins of one binder."""

    def __init__(self, people: People) -> None:
        self._seals = Seals(people.keys)
        self._hub = HubLogin(people.oauth)
        self.is_required, self._https = people.is_required, people.https
        # with the prefix, no other host of the domain can set the cookie, such as a session's
        prefix = "__Host-" if people.https else ""
        self.cookie_name = f"{prefix}pangeo-binder-login"
        self.nonce_name = f"{prefix}pangeo-binder-nonce"

    async def of(self, request: HTTPServerRequest) -> SignedIn | None:
        """Return who sent `request`, by the cookie or a hub token; None if nobody signed in. Raises HubUnavailable."""
        login = self._seals.open_login(_value(request.cookies.get(self.cookie_name)))
        if login is not None:
            person = await self._hub.person(login.token)
            return None if person is None else SignedIn(person, self._seals.csrf_of(login))
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        person = await self._hub.person(token.strip()) if scheme.lower() in _SCHEMES else None
        return None if person is None else SignedIn(person)

    def begin(self, handler: RequestHandler, next_: str) -> str:
        """Bind a login to the browser by a cookie, and return the address at the hub where it continues."""
        # several tabs may sign in at a time, so a browser keeps its secret
        kept = _value(handler.request.cookies.get(self.nonce_name))
        nonce = kept if _NONCE.fullmatch(kept) else secrets.token_urlsafe(32)
        self._set(handler, self.nonce_name, nonce, STATE_SECONDS)
        return self._hub.address(*self._seals.seal_state(next_, nonce))

    async def finish(self, handler: RequestHandler, state: str, code: str) -> LoginState:
        """Give the browser the cookie of a new login. Raises LoginFailed, HubUnavailable."""
        begun = self._seals.open_state(state, _value(handler.request.cookies.get(self.nonce_name)))
        token = await self._hub.exchange(code, begun.verifier)
        if await self._hub.person(token) is None:
            raise LoginFailed("This account may not use this service.", "Ask the operators of this service why.")
        handler.clear_cookie(self.nonce_name, path="/", secure=self._https)
        self._set(handler, self.cookie_name, self._seals.seal_login(token), LOGIN_SECONDS)
        return begun

    def end(self, handler: RequestHandler) -> str:
        """Remove the cookie, and return the hub's address that ends its own login."""
        login = self._seals.open_login(_value(handler.request.cookies.get(self.cookie_name)))
        if login is not None:
            self._hub.forget(login.token)
        handler.clear_cookie(self.cookie_name, path="/", secure=self._https)
        return self._hub.logout_address

    def check_form(self, signed: SignedIn | None, given: str, *, cross_site: bool) -> SignedIn:
        """Return who sent a form. Raises LoginNeeded, and NotAllowed if the form is not of that person's page."""
        if signed is None:
            raise LoginNeeded("You are not signed in.", "Sign in, and try again.")
        if cross_site or not signed.csrf or not is_equal(given, signed.csrf):
            raise NotAllowed("This form does not come from a page of your login.", "Open the page again.")
        return signed

    def _set(self, handler: RequestHandler, name: str, value: str, seconds: int) -> None:
        # `path=/` because of the prefix: https://datatracker.ietf.org/doc/html/draft-ietf-httpbis-rfc6265bis
        handler.set_cookie(name, value, path="/", max_age=seconds, httponly=True, samesite="Lax", secure=self._https)


def _value(cookie: Morsel[str] | None) -> str:
    return "" if cookie is None else cookie.value
