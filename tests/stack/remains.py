"""What a failed launch may leave behind in the hub, among the processes and on the disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import psutil

from pangeo_binder.command import BUILD_MARK
from pangeo_binder.local.processes import LAUNCH, STATE_DIR
from tests.stack.local import LocalStack, until


@dataclass(frozen=True)
class Remains:
    """A snapshot of everything that belongs to a stack's launches and builds."""

    servers: frozenset[str]
    """The users that have a server; the culler removes a user without a server after a minute."""
    launches: frozenset[str]
    """The ids of launches with a process."""
    builds: frozenset[str]
    """The environments that a process is building."""
    homes: frozenset[str]
    half_made: frozenset[str]
    clusters: frozenset[str]
    credentials: frozenset[str]
    """The ids of launches whose storage credentials are valid."""


def half_made(state_dir: Path) -> frozenset[str]:
    """Return the environments that are incomplete."""
    environments = (state_dir / "cache" / "environments").glob("*")
    return frozenset(path.name for path in environments if not (path / "environment.json").exists())


def marked(stack: LocalStack, mark: str = STATE_DIR) -> frozenset[str]:
    """Return the values of the variable `mark` in the environments of the stack's processes; empty if none runs."""
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
    """Return the current snapshot."""
    return Remains(
        servers=frozenset(stack.servers()),
        launches=marked(stack, LAUNCH),
        builds=marked(stack, BUILD_MARK),
        homes=frozenset(path.name for path in (stack.state_dir / "homes").glob("*")),
        half_made=half_made(stack.state_dir),
        clusters=frozenset(cluster["name"] for cluster in stack.clusters()),
        credentials=frozenset(id_ for id_, entry in stack.storage().items() if not entry["revoked"]),
    )


def wait_until_restored(stack: LocalStack, before: Remains, seconds: float = 30) -> None:
    """Wait until nothing exists that is not in `before`; fail with what is left after `seconds`."""

    def left() -> dict[str, frozenset[str]]:
        now = remains(stack)
        return {name: more for name in vars(now) if (more := getattr(now, name) - getattr(before, name))}

    try:
        until("nothing is left", lambda: not left(), seconds)
    except AssertionError:
        raise AssertionError(f"left after {seconds} s: {left()}") from None
