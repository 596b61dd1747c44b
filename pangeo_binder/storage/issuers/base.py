"""What an issuer is: it turns a launch's scope into an environment that any S3 client understands, and back.

A driver either makes credentials of a cloud's own, or keys of our S3 front (`front`). In the storage process; not for
keeping the table of launches (`launches`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

from ..scope import Scope


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a session needs to reach its storage."""

    scratch: str
    """`s3://bucket/prefix`, without a slash at its end."""
    environment: Mapping[str, str]
    """Environment variables; secret."""
    expires_at: float
    """Seconds since the epoch."""

    def __repr__(self) -> str:
        return f"Credentials({self.scratch})"


class Issuer(ABC):
    """Gives launches their credentials and takes them away again."""

    @abstractmethod
    async def issue(self, scope: Scope, expires_at: float) -> Credentials:
        """Return credentials for `scope`, good until `expires_at` (seconds since the epoch); repeating it is harmless.

        Raises StorageUnavailable where the store behind does not give any.
        """

    @abstractmethod
    async def revoke(self, launch_id: str) -> None:
        """Make the launch's credentials useless, and break off what runs with them; no error where there are none."""
