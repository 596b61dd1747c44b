"""The launch table: which launches have storage, until when, and how much of it they used.

The one truth the S3 front asks at every request, so revoking here is revoking at once. Kept in one file (0600, replaced
atomically) without any secret, since keys derive from the master key; stored bytes are not in it, they are measured at
start. In the storage process; not for moving bytes (`s3`) nor for deciding who is alive (`reaper`).
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
"""How long a pruned launch's id stays known, so that it cannot come back; tickets live for minutes."""


class LaunchRefused(StorageUnavailable):
    """This launch cannot have storage (again)."""

    status, reason = 409, "storage_launch_refused"


@dataclass(slots=True)
class StoredLaunch:
    """One launch's row. Times are seconds since the epoch."""

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
        """Return whether the launch's credentials are good at `now`."""
        return self.revoked_at is None and now < self.expires_at

    def prune_due(self, now: float) -> bool:
        """Return whether its scratch has outlived it long enough."""
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
        issued_at=row.get("issued_at") or row["vended_at"],
        expires_at=row["expires_at"],
        scope=scope_of(row["id"], grant),
        revoked_at=row["revoked_at"],
        pruned=row["pruned"],
        usage=Usage(egress=row["egress_bytes"]),
    )


class LaunchTable:
    """All launches this process knows, by id."""

    def __init__(self, path: Path) -> None:
        """Read the table at `path` where there is one."""
        self._path = path
        rows = json.loads(path.read_text())["launches"] if path.exists() else []
        self._launches = {row["id"]: _launch(row) for row in rows}
        self._saved_egress = self._egress()
        STORAGE_LAUNCHES.set(self._live_count())

    def __iter__(self) -> Iterator[StoredLaunch]:
        return iter(list(self._launches.values()))

    def get(self, launch_id: str) -> StoredLaunch | None:
        """Return the launch, live or not; None where it is not known."""
        return self._launches.get(launch_id)

    def grant(self, launch_id: str, owner: str, grant: StorageGrant, expires_at: float, now: float) -> StoredLaunch:
        """Take `launch_id` in, or give it this grant and expiry where it is in already.

        Raises LaunchRefused where it was revoked before or belongs to another server, and ValueError where its id or
        grant cannot be served.
        """
        if not names.is_launch_id(launch_id):
            raise ValueError("This is not a launch id.")
        known = self._launches.get(launch_id)
        if known is not None and not known.live(now):
            raise LaunchRefused("This launch's storage was given up and cannot come back.", "Start a new launch.")
        if known is not None and known.owner != owner:
            raise LaunchRefused("This launch's storage belongs to another server.", "Start a new launch.")
        scope = scope_of(launch_id, grant)
        launch = known or StoredLaunch(launch_id, owner, grant, now, expires_at, scope)
        launch.grant, launch.expires_at, launch.scope = grant, expires_at, scope
        self._launches[launch_id] = launch
        self.save()
        return launch

    def revoke(self, launch_id: str, now: float) -> StoredLaunch | None:
        """End the launch's credentials; return it, or None where there was nothing to end."""
        launch = self._launches.get(launch_id)
        if launch is None or launch.revoked_at is not None:
            return None
        launch.revoked_at = now
        self.save()
        return launch

    def pruned(self, launch: StoredLaunch) -> None:
        """Note that the launch's scratch is gone; its id stays known for a while."""
        launch.pruned, launch.usage.stored = True, 0
        self.save()

    def forget(self, now: float) -> None:
        """Drop the rows nobody can ask for any more, and save what was read since the last time."""
        old = [x.id for x in self if x.pruned and x.revoked_at is not None and now > x.revoked_at + REMEMBER_SECONDS]
        for launch_id in old:
            if now > self._launches[launch_id].expires_at:
                del self._launches[launch_id]
        if old or self._egress() != self._saved_egress:
            self.save()

    def save(self) -> None:
        """Write the table, wholly or not at all."""
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
