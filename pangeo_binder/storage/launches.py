"""The launch table: which launches have storage, until when, and how much they used.

The S3 front reads it at every request, so a revocation takes effect at once. It is saved in one file (0600, replaced
atomically). The file has no secret, since keys derive from the master key, and no stored bytes, which are measured at
start. Runs in the storage process; not for moving bytes (`s3`) nor for checking which servers run (`reaper`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import names
from ..errors import StorageUnavailable
from ..metrics import STORAGE_LAUNCHES
from ..model import StorageGrant, from_wire, to_wire
from .quota import Usage
from .scope import Scope, scope_of

REMEMBER_SECONDS = 7 * 24 * 3600
"""How long a pruned launch's id is remembered, so that it is not granted again; tickets live for minutes."""


class LaunchRefused(StorageUnavailable):
    """The launch cannot be granted storage, or not again."""

    status, reason = 409, "storage_launch_refused"


@dataclass(slots=True)
class StoredLaunch:
    """One row of the launch table. Times are seconds since the epoch."""

    id: str
    owner: str
    """`user/server` at the hub."""
    grant: StorageGrant
    issued_at: float
    expires_at: float
    scope: Scope
    revoked_at: float | None = None
    pruned: bool = False
    usage: Usage = field(default_factory=Usage)

    def live(self, now: float) -> bool:
        """Return whether the launch's credentials are valid at `now`."""
        return self.revoked_at is None and now < self.expires_at

    def prune_due(self, now: float) -> bool:
        """Return whether the keep time of its scratch is over at `now`."""
        return not self.pruned and self.revoked_at is not None and now >= self.revoked_at + self.grant.keep_seconds


def _row(launch: StoredLaunch) -> dict[str, Any]:
    return {
        "id": launch.id,
        "owner": launch.owner,
        "grant": to_wire(launch.grant),
        "issued_at": launch.issued_at,
        "expires_at": launch.expires_at,
        "revoked_at": launch.revoked_at,
        "pruned": launch.pruned,
        "egress_bytes": launch.usage.egress,
    }


def _launch(row: dict[str, Any]) -> StoredLaunch:
    grant = from_wire(StorageGrant, row["grant"])
    return StoredLaunch(
        id=row["id"],
        owner=row["owner"],
        grant=grant,
        issued_at=row.get("issued_at") or row["vended_at"],  # the name in tables of earlier versions
        expires_at=row["expires_at"],
        scope=scope_of(row["id"], grant),
        revoked_at=row["revoked_at"],
        pruned=row["pruned"],
        usage=Usage(egress=row["egress_bytes"]),
    )


class LaunchTable:
    """All launches known to this process, by id."""

    def __init__(self, path: Path) -> None:
        """Read the table at `path` if it exists."""
        self._path = path
        rows = json.loads(path.read_text())["launches"] if path.exists() else []
        self._launches = {row["id"]: _launch(row) for row in rows}
        self._saved_egress = self._egress()
        STORAGE_LAUNCHES.set(self._live_count())

    def __iter__(self) -> Iterator[StoredLaunch]:
        return iter(list(self._launches.values()))

    def get(self, launch_id: str) -> StoredLaunch | None:
        """Return the launch, live or not; None if unknown."""
        return self._launches.get(launch_id)

    def grant(self, launch_id: str, owner: str, grant: StorageGrant, expires_at: float, now: float) -> StoredLaunch:
        """Add `launch_id`, or update its grant and expiry if it is already known.

        Raises LaunchRefused if it was revoked before or belongs to another server, and ValueError if its id or grant
        cannot be served.
        """
        if not names.is_launch_id(launch_id):
            raise ValueError("This is not a launch id.")
        known = self._launches.get(launch_id)
        if known is not None and not known.live(now):
            raise LaunchRefused("This launch's storage was revoked and cannot be granted again.", "Start a new launch.")
        if known is not None and known.owner != owner:
            raise LaunchRefused("This launch's storage belongs to another server.", "Start a new launch.")
        scope = scope_of(launch_id, grant)
        launch = known or StoredLaunch(launch_id, owner, grant, now, expires_at, scope)
        launch.grant, launch.expires_at, launch.scope = grant, expires_at, scope
        self._launches[launch_id] = launch
        self.save()
        return launch

    def revoke(self, launch_id: str, now: float) -> StoredLaunch | None:
        """Revoke the launch's credentials and return it; None if it is unknown or was revoked before."""
        launch = self._launches.get(launch_id)
        if launch is None or launch.revoked_at is not None:
            return None
        launch.revoked_at = now
        self.save()
        return launch

    def mark_pruned(self, launch: StoredLaunch) -> None:
        """Record that the launch's scratch was removed; its id stays in the table for REMEMBER_SECONDS."""
        launch.pruned, launch.usage.stored = True, 0
        self.save()

    def remove_old_rows(self, now: float) -> None:
        """Remove rows of pruned launches after REMEMBER_SECONDS, and save the egress counted since the last save."""
        old = [x.id for x in self if x.pruned and x.revoked_at is not None and now > x.revoked_at + REMEMBER_SECONDS]
        for launch_id in old:
            if now > self._launches[launch_id].expires_at:
                del self._launches[launch_id]
        if old or self._egress() != self._saved_egress:
            self.save()

    def save(self) -> None:
        """Write the table atomically."""
        text = json.dumps({"version": 1, "launches": [_row(launch) for launch in self]})
        fresh = self._path.with_suffix(".new")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._path)
        self._saved_egress = self._egress()
        STORAGE_LAUNCHES.set(self._live_count())

    def _egress(self) -> int:
        return sum(launch.usage.egress for launch in self)

    def _live_count(self) -> int:
        return sum(launch.revoked_at is None for launch in self)
