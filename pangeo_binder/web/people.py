"""The people who sign in with JupyterHub: the binder's own cookie, and the state of a login under way.

Both are encrypted, because the cookie holds a hub token: the hub stays the judge of who has access. Every replica of
the binder reads the same cookie. Not for asking the hub (`oauth`), nor for the token of the local profile (`login`).
Binder process.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import unquote

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from ..errors import UserError

LOGIN_SECONDS: Final = 8 * 3600
"""How long a login lasts; a new one needs no password while the hub's own login lasts."""
STATE_SECONDS: Final = 600
"""How long a person has for the login at the hub and its provider."""
_NEXT_CHARACTERS: Final = 1500
"""The maximum length of the address to return to: it is part of other addresses on the way."""
_SEALED_CHARACTERS: Final = 8192
_UNSAFE = re.compile(r"[\x00-\x20\x7f\\]")


class LoginFailed(UserError):
    """The answer of the hub to a login is not one that this browser asked for, or a refusal."""

    status, reason = 403, "login_failed"


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody with an account at the hub."""

    name: str
    groups: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Login:
    """The content of the cookie."""

    token: str = field(repr=False)
    """The person's hub token, which may only identify the person."""
    nonce: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class LoginState:
    """A login under way, as it travels through the hub and back."""

    next: str
    """The local address to return to."""
    nonce: str = field(repr=False)
    """The secret of the browser that asked for it."""
    verifier: str = field(repr=False)
    """PKCE's code verifier: https://www.rfc-editor.org/rfc/rfc7636"""


def local_address(address: str, base_url: str) -> str:
    """Return `address` if it is a path (and query) of this binder, else the front page.

    Browsers read `//host`, `/\\host` and, after removing control characters, other forms as another host.
    """
    path = address.partition("?")[0]
    inside = address.startswith(base_url) and not address.startswith("//") and ".." not in unquote(path).split("/")
    return address if inside and not _UNSAFE.search(address) and len(address) <= _NEXT_CHARACTERS else base_url


def challenge_of(verifier: str) -> str:
    """Return PKCE's challenge for `verifier` by the method S256."""
    digest = hashlib.sha256(verifier.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def is_equal(given: str, expected: str) -> bool:
    """Compare two secrets in a time that does not depend on where they differ."""
    return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), expected.encode())


class Seals:
    """Encrypts and decrypts logins and states with keys derived from `keys`, the newest first."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._logins, self._states = (_fernet(keys, purpose) for purpose in ("login", "login-state"))
        self._csrf_key = _derive(keys[0], "csrf")

    def seal_login(self, token: str) -> str:
        """Return the value of a new cookie; it has nothing in common with an older one."""
        return _seal(self._logins, {"token": token, "nonce": secrets.token_urlsafe(16)})

    def open_login(self, sealed: str) -> Login | None:
        """Return the content of a cookie; None if it is too old or not ours."""
        found = _open(self._logins, sealed, LOGIN_SECONDS, ("token", "nonce"))
        return None if found is None else Login(**found)

    def seal_state(self, next_: str, nonce: str) -> tuple[str, str]:
        """Return the state of a new login and its PKCE challenge."""
        verifier = secrets.token_urlsafe(48)
        sealed = _seal(self._states, {"next": next_, "nonce": nonce, "verifier": verifier})
        return sealed, challenge_of(verifier)

    def open_state(self, sealed: str, nonce: str) -> LoginState:
        """Return the state of a login that the browser with `nonce` began. Raises LoginFailed."""
        found = _open(self._states, sealed, STATE_SECONDS, ("next", "nonce", "verifier"))
        if found is None or not nonce or not is_equal(nonce, found["nonce"]):
            raise LoginFailed(
                "This login was not begun in this browser, or it took too long.",
                "Sign in again. The browser has to accept cookies of this site.",
            )
        return LoginState(**found)

    def csrf_of(self, login: Login) -> str:
        """Return the token that forms of this login's pages send."""
        return hmac.new(self._csrf_key, login.nonce.encode(), hashlib.sha256).hexdigest()


def _derive(key: str, purpose: str) -> bytes:
    return hmac.new(key.encode(), f"pangeo-binder/{purpose}/1".encode(), hashlib.sha256).digest()


def _fernet(keys: Sequence[str], purpose: str) -> MultiFernet:
    return MultiFernet([Fernet(base64.urlsafe_b64encode(_derive(key, purpose))) for key in keys])


def _seal(fernet: MultiFernet, content: Mapping[str, str]) -> str:
    return fernet.encrypt(json.dumps(content).encode()).decode()


def _open(fernet: MultiFernet, sealed: str, seconds: int, names: tuple[str, ...]) -> dict[str, str] | None:
    if len(sealed) > _SEALED_CHARACTERS:
        return None
    try:
        found: Any = json.loads(fernet.decrypt(sealed.encode("ascii", "replace"), ttl=seconds))
    except (InvalidToken, ValueError):
        return None
    if not isinstance(found, dict) or set(found) != set(names):
        return None
    return {name: str(value) for name, value in found.items()}
