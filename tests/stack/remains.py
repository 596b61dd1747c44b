"""What a launch that did not come up may have left: looked for in the hub, among processes and on the disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import psutil

from pangeo_binder.command import BUILD_MARK
from pangeo_binder.local.processes import LAUNCH, STATE_DIR
from tests.stack.local import LocalStack, until


@dataclass(frozen=True)
class Remains:
    """Everything of a stack that belongs to its launches and builds, at one moment."""

    servers: frozenset[str]
    """By their users; a user without a server is nothing but a name, and kept a minute by the culler."""
    launches: frozenset[str]
    """The ids of launches with a process."""
    builds: frozenset[str]
    """The environments for which a process is at work."""
    homes: frozenset[str]
    half_made: frozenset[str]
    clusters: frozenset[str]
    credentials: frozenset[str]
    """The ids of launches whose storage credentials are valid."""


def half_made(state_dir: Path) -> frozenset[str]:
    """Return the environments that were begun and are not ready."""
    environments = (state_dir / "cache" / "environments").glob("*")
    return frozenset(path.name for path in environments if not (path / "environment.json").exists())


def marked(stack: LocalStack, mark: str) -> frozenset[str]:
    """Return the values of the variable `mark` in the environments of the stack's processes."""
    found = set()
    for process in psutil.process_iter():
        try:
            environ = process.environ()
            if environ.get(STATE_DIR) == str(stack.state_dir) and process.status() != psutil.STATUS_ZOMBIE:
                found.add(environ.get(mark, ""))
        except (psutil.Error, OSError):
            continue
    return frozenset(found - {""})


def remains(stack: LocalStack) -> Remains:
    """Return what is there now."""
    return Remains(
        servers=frozenset(stack.servers()),
        launches=marked(stack, LAUNCH),
        builds=marked(stack, BUILD_MARK),
        homes=frozenset(path.name for path in (stack.state_dir / "homes").glob("*")),
        half_made=half_made(stack.state_dir),
        clusters=frozenset(cluster["name"] for cluster in stack.clusters()),
        credentials=frozenset(id_ for id_, entry in stack.storage().items() if not entry["revoked"]),
    )


def until_as_before(stack: LocalStack, before: Remains, seconds: float = 30) -> None:
    """Wait until nothing is there but what was there `before`, of which some may have ended; tell what is left."""

    def left() -> dict[str, frozenset[str]]:
        now = remains(stack)
        return {name: more for name in vars(now) if (more := getattr(now, name) - getattr(before, name))}

    try:
        until("nothing is left", lambda: not left(), seconds)
    except AssertionError:
        raise AssertionError(f"after {seconds} s there is still: {left()}") from None
