"""The launch table: which launches have storage, until when, and how much they used.

The S3 front reads it at every request, so a revocation takes effect at once. It is saved in one file (0600, replaced
atomically), without a secret, since keys derive from the master key. A live launch also has an empty file in the folder
`live`: removing a file needs no space, so a revocation is recorded on a full disk as well. Runs in the storage process;
not for moving bytes (`s3`) nor for checking which servers run (`reaper`).
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from .. import names
from ..errors import StorageUnavailable
from ..metrics import STORAGE_GRANTED_BYTES, STORAGE_LAUNCHES
from ..model import StorageGrant, from_wire, to_wire
from .durable import Durability, sync_folder, write_file
from .quota import Amount, Files, Limits, Usage, add, limits_of
from .scope import Scope, scope_of

log = logging.getLogger(__name__)

REMEMBER_SECONDS = 7 * 24 * 3600
"""How long a pruned launch's id is remembered, so that it is not granted again; tickets live for minutes."""


class LaunchRefused(StorageUnavailable):
    """The launch cannot be granted storage, or not again."""

    status, reason = 409, "storage_launch_refused"


class TableUnwritable(StorageUnavailable):
    """A change of the launch table cannot be written to the disk."""

    status, reason = 507, "storage_disk_full"


class TableUnreadable(StorageUnavailable):
    """The file of the launch table cannot be read at the start."""

    status, reason = 500, "storage_state_unreadable"


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
    files: Files = field(default_factory=Files)
    measured: bool = True
    """Whether `usage` and `files` are exact; else nothing is written until they were measured."""

    @property
    def limits(self) -> Limits:
        """How much it may hold and do, derived from its grant."""
        return limits_of(self.scope.scratch_bytes)

    def add(self, amount: Amount) -> None:
        """Add `amount`, whose numbers may be negative, to what the launch stores."""
        add(self.usage, self.files, amount)

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
        "stored_bytes": launch.usage.stored,
        "files": launch.files.stored,
    }


def _launch(row: dict[str, Any], measured: bool) -> StoredLaunch:
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
        usage=Usage(egress=row["egress_bytes"], stored=row.get("stored_bytes", 0)),
        files=Files(row.get("files", 0)),
        measured=row["pruned"] or (measured and "files" in row),
    )


class LaunchTable:
    """All launches known to this process, by id."""

    def __init__(self, path: Path, durability: Durability = Durability.FULL) -> None:
        """Read the table at `path` if it exists. Raises TableUnreadable."""
        self._path, self._durability = path, durability
        self._live = path.with_name("live")
        document = _read(path)
        known = document["version"] > 1  # earlier versions had no files of live launches
        loaded = [_loaded(path, row, bool(document.get("clean"))) for row in document["launches"]]
        self._launches = {launch.id: launch for launch in loaded}
        self._live.mkdir(mode=0o700, exist_ok=True)
        for launch in self:
            marked = (self._live / launch.id).exists()
            if launch.revoked_at is None and known and not marked:
                launch.revoked_at = time.time()
            elif launch.revoked_at is None and not marked:
                (self._live / launch.id).touch(0o600)
        self._lock = asyncio.Lock()
        self._saved: Any = None
        self._clean = False
        self._unrecorded: set[str] = set()
        self._set_metrics()

    def __iter__(self) -> Iterator[StoredLaunch]:
        return iter(list(self._launches.values()))

    def get(self, launch_id: str) -> StoredLaunch | None:
        """Return the launch, live or not; None if unknown."""
        return self._launches.get(launch_id)

    @property
    def granted_bytes(self) -> int:
        """The sum of what all launches may store that are not pruned."""
        return sum(launch.scope.scratch_bytes for launch in self if not launch.pruned)

    async def grant(
        self, launch_id: str, owner: str, grant: StorageGrant, expires_at: float, now: float
    ) -> StoredLaunch:
        """Add `launch_id`, or update its grant and expiry if it is already known; first on the disk.

        Raises LaunchRefused if it was revoked before or belongs to another server, TableUnwritable, and ValueError if
        its id or grant cannot be served.
        """
        if not names.is_launch_id(launch_id):
            raise ValueError("This is not a launch id.")
        scope = scope_of(launch_id, grant)
        async with self._lock:
            known = self._launches.get(launch_id)
            if known is not None and not known.live(now):
                raise LaunchRefused(
                    "This launch's storage was revoked and cannot be granted again.", "Start a new launch."
                )
            if known is not None and known.owner != owner:
                raise LaunchRefused("This launch's storage belongs to another server.", "Start a new launch.")
            launch = known or StoredLaunch(launch_id, owner, grant, now, expires_at, scope)
            await self._write(replace(launch, grant=grant, expires_at=expires_at, scope=scope))
            if launch.revoked_at is not None:  # revoked during the write
                raise LaunchRefused("This launch's storage was revoked meanwhile.", "Start a new launch.")
            launch.grant, launch.expires_at, launch.scope = grant, expires_at, scope
            self._launches[launch_id] = launch
            self._set_metrics()
        return launch

    async def revoke(self, launch_id: str, now: float) -> StoredLaunch | None:
        """Revoke the launch's credentials at once, then on the disk; return it, or None if there is nothing to revoke.

        Raises TableUnwritable if it cannot be recorded; `save` tries again.
        """
        launch = self._launches.get(launch_id)
        if launch is None or (launch.revoked_at is not None and launch_id not in self._unrecorded):
            return None
        launch.revoked_at = launch.revoked_at or now
        self._unrecorded.add(launch_id)
        self._set_metrics()
        await self._record_revocations()
        return launch

    async def _record_revocations(self) -> None:
        """Remove the files of launches that are not live: this works on a full disk. Raises TableUnwritable."""
        async with self._lock:
            for launch_id in list(self._unrecorded):
                try:
                    await asyncio.to_thread(self._remove_live, launch_id)
                except OSError as error:
                    log.error("the revocation of %s holds, but cannot be recorded yet: %s", launch_id, error.strerror)
                    raise TableUnwritable(
                        "The credentials are revoked, but the disk of the storage service cannot record it yet.",
                        "It is tried again. Until then, do not restart the storage service.",
                    ) from None
                self._unrecorded.discard(launch_id)

    def mark_pruned(self, launch: StoredLaunch) -> None:
        """Note that the launch's scratch was removed; its id stays in the table for REMEMBER_SECONDS."""
        launch.pruned, launch.measured = True, True
        launch.usage.stored = launch.files.stored = 0

    def remove_old_rows(self, now: float) -> None:
        """Remove rows of pruned launches after REMEMBER_SECONDS."""
        for launch in self:
            old = launch.pruned and launch.revoked_at is not None and now > launch.revoked_at + REMEMBER_SECONDS
            if old and now > launch.expires_at:
                del self._launches[launch.id]

    async def save(self, clean: bool = False) -> None:
        """Write what changed. Raises TableUnwritable. `clean` says that nothing will change after it."""
        await self._record_revocations()
        async with self._lock:
            if clean != self._clean or self._state() != self._saved:
                self._clean = clean
                await self._write()

    async def _write(self, changed: StoredLaunch | None = None) -> None:
        """Write the table, with `changed` as the new row of its launch. Raises TableUnwritable."""
        state = self._state()
        launches = {launch.id: launch for launch in self}
        if changed is not None:
            launches[changed.id] = changed
        try:
            await asyncio.to_thread(self._write_file, list(launches.values()), changed)
        except OSError as error:
            log.error("the launch table cannot be written: %s", error.strerror)
            raise TableUnwritable(
                "The disk of the storage service is full or cannot be written.", "Ask the operator to free space on it."
            ) from None
        self._saved = state

    def _write_file(self, launches: list[StoredLaunch], changed: StoredLaunch | None) -> None:
        rows = [_row(launch) for launch in launches]
        text = json.dumps({"version": 2, "clean": self._clean, "launches": rows})
        if changed is not None:
            self._mark_live(changed.id, text)
        else:
            write_file(self._path, text, self._durability)

    def _mark_live(self, launch_id: str, text: str) -> None:
        """Write the table, then the file without which its new row counts as revoked."""
        write_file(self._path, text, self._durability)
        (self._live / launch_id).touch(0o600)
        sync_folder(self._live, self._durability)

    def _remove_live(self, launch_id: str) -> None:
        (self._live / launch_id).unlink(missing_ok=True)
        sync_folder(self._live, self._durability)

    def _state(self) -> list[tuple[Any, ...]]:
        return [
            (x.id, x.revoked_at, x.pruned, x.expires_at, x.usage.egress, x.usage.stored, x.files.stored) for x in self
        ]

    def _set_metrics(self) -> None:
        STORAGE_LAUNCHES.set(sum(launch.revoked_at is None for launch in self))
        STORAGE_GRANTED_BYTES.set(self.granted_bytes)


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text()
        document = json.loads(text)
        if not isinstance(document["launches"], list) or not isinstance(document["version"], int):
            raise ValueError
    except FileNotFoundError:
        return {"version": 2, "launches": []}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise _unreadable(path) from None
    return dict(document)


def _loaded(path: Path, row: Any, measured: bool) -> StoredLaunch:
    try:
        return _launch(row, measured)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise _unreadable(path) from None


def _unreadable(path: Path) -> TableUnreadable:
    return TableUnreadable(
        f"The launch table {path} cannot be read: it is truncated, damaged, or of another version.",
        "Restore the file from a backup. Or move it away: then all credentials end, and objects/ can be emptied.",
    )
