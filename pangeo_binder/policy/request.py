"""What a repository requests for a launch in its own `binder/pangeo.yaml`: less than its tier, never more.

Strangers write the file, so it is small, its mistakes end the launch with a sentence, and no other file is ever shown.
The process that checks the repository out reads it: the binder or a build pod. Deciding (`narrow`) is pure.
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
_SHOWN_PROBLEMS = 20
_TEXT_CHARACTERS = 500
_HINT = "The repository's authors can mend it."


class RequestInvalid(UserError):
    """The repository's `pangeo.yaml` has mistakes; the message lists the first ones as `file:line: problem`."""

    status, reason = 422, "request_invalid"


def _none_is_no_workers(value: object) -> object:
    return {"workers": 0} if value == "none" else value


class ServerRequest(Part):
    """How large a server the repository needs."""

    cpu: Cores | None = None
    memory: Memory | None = None


class DaskRequest(Part):
    """How many workers the repository needs, over all clusters; none, and it gets no cluster."""

    workers: Annotated[int, Field(ge=0)] | None = None


class StorageRequest(Part):
    """Which entries of the catalogue the repository reads; not said, and it may read what its tier may."""

    read: Names | None = None


class RepositoryRequest(Part):
    """The repository's request, in the words of a policy's tier."""

    server: ServerRequest = ServerRequest()
    dask: Annotated[DaskRequest, BeforeValidator(_none_is_no_workers)] = DaskRequest()
    storage: StorageRequest = StorageRequest()


def read_request(raw: bytes, name: str = PLACES[0]) -> RepositoryRequest:
    """Return the request in the file `name` with the content `raw`. Raises RequestInvalid with all its problems."""
    if len(raw) > MAX_BYTES:
        raise RequestInvalid(f"{name} is larger than {MAX_BYTES // 1024} KiB.", _HINT)
    try:
        document = document_of(raw)
    except NotYaml as error:
        raise RequestInvalid(f"{name}:{error.problem.line}: {error.problem.text}", _HINT) from None
    problems = list(document.problems)
    try:
        request = RepositoryRequest.model_validate(document.data)
    except ValidationError as error:
        problems += problems_of(error, RepositoryRequest, document)
    if problems:
        found = sorted(problems, key=lambda each: each.line)
        lines = [f"{name}:{each.line}: {each.text[:_TEXT_CHARACTERS]}" for each in found[:_SHOWN_PROBLEMS]]
        lines += [f"{name} has {len(found)} mistakes."] if len(found) > _SHOWN_PROBLEMS else []
        raise RequestInvalid("\n".join(lines), _HINT)
    return request


def narrow(grant: Grant, request: RepositoryRequest) -> Grant:
    """Return what both `grant` and `request` hold: of each limit the smaller one."""
    server = replace(
        grant.server,
        cpu=min(grant.server.cpu, request.server.cpu or grant.server.cpu),
        memory_bytes=min(grant.server.memory_bytes, request.server.memory or grant.server.memory_bytes),
    )
    dask, storage = _narrow_dask(grant.dask, request.dask), _narrow_storage(grant.storage, request.storage)
    less = replace(grant, server=server, dask=dask, storage=storage)
    return less if less == grant else replace(less, reason=f"{grant.reason} The repository asks for less.")


def request_file(checkout: Path) -> tuple[str, bytes] | None:
    """Return the name and the content of the repository's file, one byte of what is too much at most, or None."""
    for name in PLACES:
        path = checkout / name
        # a link out of the checkout could show a file of the binder's own in the problems
        if path.is_file() and path.resolve().is_relative_to(checkout.resolve()):
            with path.open("rb") as file:
                return name, file.read(MAX_BYTES + 1)
    return None


def find_request(checkout: Path) -> RepositoryRequest:
    """Return what the repository at `checkout` asks for. Raises RequestInvalid."""
    found = request_file(checkout)
    return read_request(found[1], found[0]) if found else RepositoryRequest()


def _narrow_dask(grant: DaskGrant | None, request: DaskRequest) -> DaskGrant | None:
    if grant is None or request.workers is None or request.workers >= grant.workers:
        return grant
    if request.workers < grant.clusters:
        return None if request.workers == 0 else _narrow_dask(replace(grant, clusters=request.workers), request)
    return replace(
        grant,
        workers=request.workers,
        cores=min(grant.cores, request.workers * grant.worker_cores),
        memory_bytes=min(grant.memory_bytes, request.workers * grant.worker_memory_bytes),
        start_workers=min(grant.start_workers, request.workers // grant.clusters),
    )


def _narrow_storage(grant: StorageGrant | None, request: StorageRequest) -> StorageGrant | None:
    if grant is None or request.read is None:
        return grant
    return replace(grant, read=tuple(entry for entry in grant.read if entry.name in request.read))
