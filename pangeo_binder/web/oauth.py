"""The binder as an OAuth client of JupyterHub: where a login begins, a code for a token, and whose token it is.

JupyterHub's own client (`jupyterhub.services.auth`) would bring the hub's package into this process, and keeps the
token readable in the cookie. Who has access is asked again after a minute, so a deleted account and a logout at the hub
end a login here. Binder process. API: https://jupyterhub.readthedocs.io/en/stable/reference/services.html
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import aiohttp

from ..answers import AnswerInvalid, read_object
from ..errors import HubUnavailable
from ..names import is_anonymous_user
from .people import LoginFailed, Person

log = logging.getLogger(__name__)

_TIMEOUT = aiohttp.ClientTimeout(total=20)
_FRESH_SECONDS = 60.0
"""How long an answer of the hub about a token is used."""
_REMEMBERED = 10_000
_TOKEN_CHARACTERS = 1000
_GROUPS = 1000
_AGAIN = "Try again in a minute."
_REFUSED = (401, 403, 404)
_ACCESS = "access:services"


@dataclass(frozen=True, slots=True)
class OAuthSettings:
    """The binder as the hub knows it."""

    api_url: str
    """The hub's REST API, as this process reaches it."""
    hub_url: str
    """The hub's own pages, as browsers reach them; ends in a slash."""
    service: str = "binder"
    """The name of the binder's service at the hub."""
    client_id: str = "service-binder"
    redirect_uri: str = "/oauth_callback"
    secret: str = field(default="", repr=False)
    """The service's token at the hub."""


class HubLogin:
    """The hub, as far as logins need it; one instance for the life of the binder."""

    def __init__(self, settings: OAuthSettings) -> None:
        self._settings = settings
        self._known: OrderedDict[bytes, tuple[float, Person | None]] = OrderedDict()

    @property
    def logout_address(self) -> str:
        """The hub's page that ends its own login, and with it the tokens that came from it."""
        return f"{self._settings.hub_url}logout"

    def address(self, state: str, challenge: str) -> str:
        """Return the address at which a person signs in."""
        settings = self._settings
        query = {
            "client_id": settings.client_id,
            "redirect_uri": settings.redirect_uri,
            "response_type": "code",
            "state": state,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        return f"{settings.hub_url}api/oauth2/authorize?{urlencode(query)}"

    async def exchange(self, code: str, verifier: str) -> str:
        """Return the hub token for a code. Raises LoginFailed, HubUnavailable."""
        settings = self._settings
        form = {
            "client_id": settings.client_id,
            "client_secret": settings.secret,
            "grant_type": "authorization_code",
            "code": code,
            "code_verifier": verifier,
            "redirect_uri": settings.redirect_uri,
        }
        status, answer = await self._ask("POST", "/oauth2/token", data=form)
        token = answer.get("access_token")
        if status != 200 or not isinstance(token, str):
            log.warning("JupyterHub refused the code of a login (%d)", status)
            raise LoginFailed("JupyterHub did not accept this login.", "Sign in again.")
        return token

    async def person(self, token: str) -> Person | None:
        """Return whose token this is; None if the hub does not know it, or it is not for the binder.

        A session's own token is not for the binder, so launched code cannot launch in its person's name. Raises
        HubUnavailable.
        """
        if not token or len(token) > _TOKEN_CHARACTERS or not token.isascii() or not token.isprintable():
            return None
        key, now = _key(token), time.monotonic()
        until, found = self._known.get(key, (0.0, None))
        if until > now:
            return found
        status, model = await self._ask("GET", "/user", headers={"Authorization": f"token {token}"})
        if status != 200 and status not in _REFUSED:
            raise HubUnavailable(f"JupyterHub answered with an error ({status}).", _AGAIN)
        found = self._person_of(model) if status == 200 else None
        self._known[key] = (now + _FRESH_SECONDS, found)
        self._known.move_to_end(key)
        while len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return found

    def forget(self, token: str) -> None:
        """Ask the hub about this token again when it is used next."""
        self._known.pop(_key(token), None)

    def _person_of(self, model: dict[str, Any]) -> Person | None:
        scopes, name, groups = model.get("scopes") or (), model.get("name"), model.get("groups") or ()
        allowed = {_ACCESS, f"{_ACCESS}!service={self._settings.service}"}
        if model.get("kind") != "user" or not isinstance(name, str) or not allowed & set(scopes):
            return None
        if is_anonymous_user(name):  # the hub refuses such a login as well
            return None
        return Person(name, tuple(group for group in groups[:_GROUPS] if isinstance(group, str)))

    async def _ask(self, method: str, path: str, **kwargs: Any) -> tuple[int, dict[str, Any]]:
        try:
            async with (
                aiohttp.ClientSession(timeout=_TIMEOUT) as session,
                session.request(method, f"{self._settings.api_url}{path}", **kwargs) as response,
            ):
                return response.status, await read_object(response)
        except AnswerInvalid:
            return 502, {}
        except (aiohttp.ClientError, TimeoutError) as error:
            log.error("JupyterHub did not answer a login: %s", type(error).__name__)
            raise HubUnavailable("JupyterHub does not answer.", _AGAIN) from None


def _key(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
