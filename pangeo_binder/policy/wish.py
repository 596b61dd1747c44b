"""What a repository asks of a launch in its own `binder/pangeo.yaml`: less than its tier, never more.

Written by strangers, so the file is small, its mistakes end the launch with a sentence, and nothing of another file is
ever shown. Read where the repository is checked out, by the binder or by a build pod; deciding (`narrow`) is pure.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field, ValidationError

from ..errors import UserError
from ..model import DaskGrant, Grant, StorageGrant
from .document import NotYaml, document_of
from .model import Cores, Memory, Names, Part
from .sentences import problems_of

PLACES = ("binder/pangeo.yaml", ".binder/pangeo.yaml")
MAX_BYTES = 16 * 1024
_HINT = "The repository's authors can mend it."


class WishInvalid(UserError):
    """The repository's `pangeo.yaml` has mistakes; the message lists all of them as `file:line: problem`."""

    status, reason = 422, "wish_invalid"


def _none_is_no_workers(value: object) -> object:
    return {"workers": 0} if value == "none" else value


class ServerWish(Part):
    """How large a server the repository needs."""

    cpu: Cores | None = None
    memory: Memory | None = None


class DaskWish(Part):
    """How many workers the repository needs, over all clusters; none, and it gets no cluster."""

    workers: Annotated[int, Field(ge=0)] | None = None


class StorageWish(Part):
    """Which entries of the catalogue the repository reads; not said, and it may read what its tier may."""

    read: Names | None = None


class Wish(Part):
    """The repository's own wishes, in the words of a policy's tier."""

    server: ServerWish = ServerWish()
    dask: Annotated[DaskWish, BeforeValidator(_none_is_no_workers)] = DaskWish()
    storage: StorageWish = StorageWish()


def read_wish(raw: bytes, name: str = PLACES[0]) -> Wish:
    """Return the wish that the file `name` with the content `raw` holds. Raises WishInvalid with all its problems."""
    if len(raw) > MAX_BYTES:
        raise WishInvalid(f"{name} is larger than {MAX_BYTES // 1024} KiB.", _HINT)
    try:
        document = document_of(raw)
    except NotYaml as error:
        raise WishInvalid(f"{name}:{error.problem.line}: {error.problem.text}", _HINT) from None
    problems = list(document.problems)
    try:
        wish = Wish.model_validate(document.data)
    except ValidationError as error:
        problems += problems_of(error, Wish, document)
    if problems:
        lines = [f"{name}:{each.line}: {each.text}" for each in sorted(problems, key=lambda each: each.line)]
        raise WishInvalid("\n".join(lines), _HINT)
    return wish


def narrow(grant: Grant, wish: Wish) -> Grant:
    """Return what both `grant` and `wish` hold: of each limit the smaller one."""
    server = replace(
        grant.server,
        cpu=min(grant.server.cpu, wish.server.cpu or grant.server.cpu),
        memory_bytes=min(grant.server.memory_bytes, wish.server.memory or grant.server.memory_bytes),
    )
    dask, storage = _narrow_dask(grant.dask, wish.dask), _narrow_storage(grant.storage, wish.storage)
    less = replace(grant, server=server, dask=dask, storage=storage)
    return less if less == grant else replace(less, reason=f"{grant.reason} The repository asks for less.")


def wish_file(checkout: Path) -> tuple[str, bytes] | None:
    """Return the name and the content of the repository's file, one byte of what is too much at most, or None."""
    for name in PLACES:
        path = checkout / name
        # a link out of the checkout could show a file of the binder's own in the problems
        if path.is_file() and path.resolve().is_relative_to(checkout.resolve()):
            with path.open("rb") as file:
                return name, file.read(MAX_BYTES + 1)
    return None


def find_wish(checkout: Path) -> Wish:
    """Return what the repository at `checkout` asks for. Raises WishInvalid."""
    found = wish_file(checkout)
    return read_wish(found[1], found[0]) if found else Wish()


def _narrow_dask(grant: DaskGrant | None, wish: DaskWish) -> DaskGrant | None:
    if grant is None or wish.workers is None or wish.workers >= grant.workers:
        return grant
    if wish.workers < grant.clusters:
        return None if wish.workers == 0 else _narrow_dask(replace(grant, clusters=wish.workers), wish)
    return replace(
        grant,
        workers=wish.workers,
        cores=min(grant.cores, wish.workers * grant.worker_cores),
        memory_bytes=min(grant.memory_bytes, wish.workers * grant.worker_memory_bytes),
        start_workers=min(grant.start_workers, wish.workers // grant.clusters),
    )


def _narrow_storage(grant: StorageGrant | None, wish: StorageWish) -> StorageGrant | None:
    if grant is None or wish.read is None:
        return grant
    return replace(grant, read=tuple(entry for entry in grant.read if entry.name in wish.read))
