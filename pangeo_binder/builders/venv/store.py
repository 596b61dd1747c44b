"""The environments on disk: `<cache>/environments/<id>/{venv,checkout,environment.json}`.

`environment.json` is written last and atomically, so an environment is either ready or not found. A process holds the
locks, and they end with it. Runs in the binder. The builder decides what an environment contains.
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
"""An environment used more recently than this is never pruned: a server may be about to start in it."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What pruning needs to know of a ready environment."""

    id: str
    bytes: int
    """Its size when it was made, including the files that it shares with uv's cache."""
    used: float
    """The time of its last use, in seconds since the epoch."""


class EnvironmentStore:
    """The environments of one cache directory, shared by all processes that use it."""

    def __init__(self, cache_dir: Path) -> None:
        self._environments = cache_dir / "environments"
        self._locks = cache_dir / "locks"

    def path(self, id_: str) -> Path:
        """Return the directory of the environment `id_`, which need not exist. Virtual environments cannot be moved."""
        return self._environments / id_

    def find(self, id_: str) -> VirtualEnvironment | None:
        """Return the environment `id_` if it is ready, and record the use."""
        marker = self.path(id_) / _MARKER
        try:
            environment = from_wire(VirtualEnvironment, json.loads(marker.read_text())["environment"])
            os.utime(marker)
        except (OSError, ValueError, KeyError):
            return None
        return environment

    def finish(self, environment: VirtualEnvironment) -> None:
        """Mark `environment` as ready, so that `find` returns it."""
        folder = self.path(environment.id)
        body = json.dumps({"environment": to_wire(environment), "bytes": _size(folder)})
        draft = folder / f"{_MARKER}.part"
        with draft.open("w") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        draft.rename(folder / _MARKER)

    @contextmanager
    def lock(self, id_: str) -> Iterator[bool]:
        """Try to lock the environment and yield whether that worked. The kernel frees the lock if the process dies."""
        self._locks.mkdir(parents=True, exist_ok=True)
        with (self._locks / id_).open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True

    def remove(self, id_: str) -> None:
        """Remove an environment and end the processes that build it."""
        folder = self.path(id_)
        (folder / _MARKER).unlink(missing_ok=True)  # first, so that `find` never returns an incomplete environment
        end_marked(str(folder))
        shutil.rmtree(folder, onerror=_make_writable)

    def discard_unfinished(self, id_: str) -> None:
        """Remove the environment unless it is ready. The caller must hold its lock."""
        if not (self.path(id_) / _MARKER).exists():
            self.remove(id_)

    def prune_unfinished(self) -> int:
        """Remove the environments and processes of builds whose process died; return how many environments."""
        removed = 0
        for id_ in self._ids():
            with self.lock(id_) as free:
                if free and not (self.path(id_) / _MARKER).exists():
                    self.remove(id_)
                    removed += 1
        return removed

    def stored(self) -> list[Stored]:
        """Return the ready environments, least recently used first."""
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

        Keeps the ids in `keep` (servers run in them) and environments used in the last minutes. Returns the removed
        ids.
        """
        stored, now, removed = self.stored(), time.time(), []
        total = sum(each.bytes for each in stored)
        for each in stored:
            if each.id in keep or each.used > now - _GRACE_SECONDS:
                continue
            if total > max_bytes or each.used < now - max_age_seconds:
                with self.lock(each.id) as free:
                    if free:
                        self.remove(each.id)
                        total -= each.bytes
                        removed.append(each.id)
        return removed

    def _ids(self) -> list[str]:
        return [path.name for path in self._environments.iterdir()] if self._environments.is_dir() else []


def _size(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*"))


def _make_writable(function: Callable[..., Any], path: str, error: Any) -> None:
    """Make a folder that a build made read-only writable, and let `rmtree` continue."""
    if isinstance(error[1], FileNotFoundError):
        return
    for each in (Path(path).parent, Path(path)):
        if not each.is_symlink():
            each.chmod(stat.S_IRWXU)
    if Path(path).is_dir() and not Path(path).is_symlink():
        shutil.rmtree(path)
    else:
        Path(path).unlink(missing_ok=True)
