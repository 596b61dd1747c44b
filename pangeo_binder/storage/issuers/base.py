"""The interface of issuers: they turn a launch's scope into environment variables for S3 clients, and revoke them.

A driver issues either a cloud's own credentials or keys of our S3 front (`front`). Runs in the storage process; not for
the launch table (`launches`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

from ..scope import Scope


@dataclass(frozen=True, slots=True)
class Credentials:
    """The location of a session's scratch, and the environment variables that give access."""

    scratch: str
    """`s3://bucket/prefix`, without a trailing slash."""
    environment: Mapping[str, str]
    """Environment variables; secret."""
    expires_at: float
    """Seconds since the epoch."""

    def __repr__(self) -> str:
        return f"Credentials({self.scratch})"


class Issuer(ABC):
    """Issues and revokes the credentials of launches."""

    @abstractmethod
    async def issue(self, scope: Scope, expires_at: float) -> Credentials:
        """Return credentials for `scope`, valid until `expires_at` (seconds since the epoch); idempotent.

        Raises StorageUnavailable if the store does not issue any.
        """

    @abstractmethod
    async def revoke(self, launch_id: str) -> None:
        """Revoke the launch's credentials and abort its requests; no error if there are none."""
