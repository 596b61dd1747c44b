"""The environments on disk: `<cache>/environments/<id>/{venv,checkout,environment.json}`.

`environment.json` is written last and at once, so an environment either is ready or is not found. Locks are held by a
process and go with it. Runs in the binder; what goes into an environment is the builder's.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import stat
import time
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...command import end_marked
from ...model import VirtualEnvironment, from_wire, to_wire

_MARKER = "environment.json"
_GRACE_SECONDS = 600
"""An environment used this recently may be on its way to a server, and is never pruned."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A ready environment, as pruning sees it."""

    id: str
    bytes: int
    """Its size when it was made, as if none of its files were shared with uv's cache."""
    used: float
    """When it was last found, in seconds since the epoch."""


class EnvironmentStore:
    """The environments of one cache directory, shared by all processes that use it."""

    def __init__(self, cache_dir: Path) -> None:
        self._environments = cache_dir / "environments"
        self._locks = cache_dir / "locks"

    def path(self, id_: str) -> Path:
        """Return where the environment `id_` is or would be; virtual environments cannot be moved."""
        return self._environments / id_

    def find(self, id_: str) -> VirtualEnvironment | None:
        """Return the environment `id_` where it is ready, and note that it was used."""
        marker = self.path(id_) / _MARKER
        try:
            environment = from_wire(VirtualEnvironment, json.loads(marker.read_text())["environment"])
            os.utime(marker)
        except (OSError, ValueError, KeyError):
            return None
        return environment

    def finish(self, environment: VirtualEnvironment) -> None:
        """Make `environment` ready; from here on it is found."""
        place = self.path(environment.id)
        body = json.dumps({"environment": to_wire(environment), "bytes": _size(place)})
        draft = place / f"{_MARKER}.part"
        with draft.open("w") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        draft.rename(place / _MARKER)

    @contextmanager
    def lock(self, id_: str) -> Iterator[bool]:
        """Hold the environment's lock, and yield whether it was free; it goes with the process, however that ends."""
        self._locks.mkdir(parents=True, exist_ok=True)
        with (self._locks / id_).open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True

    def remove(self, id_: str) -> None:
        """Remove an environment and end what builds it; the marker goes first, so it is never found in part."""
        place = self.path(id_)
        (place / _MARKER).unlink(missing_ok=True)
        end_marked(str(place))
        shutil.rmtree(place, onerror=_make_writable)

    def discard_unfinished(self, id_: str) -> None:
        """Remove the environment unless it is ready. The caller holds its lock."""
        if not (self.path(id_) / _MARKER).exists():
            self.remove(id_)

    def prune_unfinished(self) -> int:
        """Remove what builders that died left, their processes too; return how many there were."""
        gone = 0
        for id_ in self._ids():
            with self.lock(id_) as free:
                if free and not (self.path(id_) / _MARKER).exists():
                    self.remove(id_)
                    gone += 1
        return gone

    def stored(self) -> list[Stored]:
        """Return the ready environments, the least recently used first."""
        found = []
        for id_ in self._ids():
            marker = self.path(id_) / _MARKER
            try:
                size, used = int(json.loads(marker.read_text())["bytes"]), marker.stat().st_mtime
            except (OSError, ValueError, KeyError):
                continue
            found.append(Stored(id_, size, used))
        return sorted(found, key=lambda each: each.used)

    def prune(self, keep: Set[str], max_bytes: int, max_age_seconds: float) -> list[str]:
        """Remove the least recently used until all fit into `max_bytes`, and all unused for `max_age_seconds`.

        Those whose ids are in `keep` (servers run in them) stay, and those used within minutes. Returns the removed.
        """
        stored, now, gone = self.stored(), time.time(), []
        total = sum(each.bytes for each in stored)
        for each in stored:
            if each.id in keep or each.used > now - _GRACE_SECONDS:
                continue
            if total > max_bytes or each.used < now - max_age_seconds:
                with self.lock(each.id) as free:
                    if free:
                        self.remove(each.id)
                        total -= each.bytes
                        gone.append(each.id)
        return gone

    def _ids(self) -> list[str]:
        return [path.name for path in self._environments.iterdir()] if self._environments.is_dir() else []


def _size(place: Path) -> int:
    return sum(path.lstat().st_size for path in place.rglob("*"))


def _make_writable(function: Callable[..., Any], path: str, error: Any) -> None:
    """Let `rmtree` into folders that a build made read-only."""
    if isinstance(error[1], FileNotFoundError):
        return
    for each in (Path(path).parent, Path(path)):
        if not each.is_symlink():
            each.chmod(stat.S_IRWXU)
    if Path(path).is_dir() and not Path(path).is_symlink():
        shutil.rmtree(path)
    else:
        Path(path).unlink(missing_ok=True)
