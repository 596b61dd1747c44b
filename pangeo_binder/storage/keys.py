"""Derives a launch's S3 key triple from the master key, so no secret is stored and keys survive a restart.

Not for revocation: the launch table decides at every request whether keys are still valid. Pure; used by the issuer of
the S3 front and by the front itself.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import dataclass

from .. import names

_PREFIX = "PBND"


@dataclass(frozen=True, slots=True)
class KeyTriple:
    """The keys with which an S3 client signs. All but the first are secret."""

    access_key_id: str
    secret: str
    session_token: str

    def __repr__(self) -> str:
        return f"KeyTriple({self.access_key_id})"


def _derive(master_key: str, purpose: str, access_key_id: str) -> str:
    digest = hmac.new(master_key.encode(), f"storage/{purpose}/{access_key_id}".encode(), hashlib.sha256).digest()
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def derive_keys(master_key: str, launch_id: str) -> KeyTriple:
    """Return the keys of the launch `launch_id`; the same master key always gives the same keys."""
    access_key_id = _PREFIX + launch_id.upper()
    return KeyTriple(
        access_key_id, _derive(master_key, "secret", access_key_id), _derive(master_key, "session", access_key_id)
    )


def launch_of(access_key_id: str) -> str | None:
    """Return the launch id of an access key id; None if it is not one of this service."""
    launch_id = access_key_id.removeprefix(_PREFIX).lower()
    if access_key_id != _PREFIX + launch_id.upper() or not names.is_launch_id(launch_id):
        return None
    return launch_id
