"""The hierarchy of all errors, and the rule which of them a person may see.

Only a `UserError` is shown to a person: a sentence about what is wrong and a hint what to do. Every other error is
logged with an id, and the person sees only the id. Used in every process; not for converting errors to HTTP or events,
which `web` and `events` do.
"""

from __future__ import annotations

import re


class PangeoBinderError(Exception):
    """The base class of all errors of this project."""


class UserError(PangeoBinderError):
    """An error whose text is written for the affected person.

    `message` is a sentence about what is wrong; `hint` says what to do and may be empty. `status` is the HTTP status
    outside an event stream. `reason` is the stable word in metrics and logs.
    """

    status = 400
    reason = "user_error"

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class BadLink(UserError):
    """The link's provider or spec is invalid."""

    status, reason = 404, "bad_link"


class RepoNotFound(UserError):
    """There is no readable repository at this URL."""

    status, reason = 404, "repo_not_found"


class HostUnavailable(UserError):
    """The repository's host does not answer, or its answer is invalid."""

    status, reason = 503, "host_unavailable"


class HostBusy(UserError):
    """The repository's host answers no more requests of this service for now."""

    status, reason = 503, "host_busy"


class RepoTooLarge(UserError):
    """The repository lists or says more than this service reads."""

    status, reason = 422, "repo_too_large"


class RefNotFound(UserError):
    """The repository has no such branch, tag or commit."""

    status, reason = 404, "ref_not_found"


class NotAllowed(UserError):
    """The policy denies this launch."""

    status, reason = 403, "not_allowed"


class LoginNeeded(UserError):
    """The policy denies this launch to somebody without a login, and may allow it to somebody with one."""

    status, reason = 403, "login_needed"


class QuotaExceeded(UserError):
    """The policy allows this launch, but a shared limit is exhausted."""

    status, reason = 429, "quota_exceeded"


class BuildFailed(UserError):
    """The repository's environment could not be built."""

    status, reason = 422, "build_failed"


class HubUnavailable(UserError):
    """JupyterHub does not answer, or its answer is invalid."""

    status, reason = 503, "hub_unavailable"


class HubStarting(UserError):
    """JupyterHub has just started and waits for the binders to report the launches that hold a seat."""

    status, reason = 503, "hub_starting"


class SeatLost(UserError):
    """The launch holds no seat (any more), so the hub starts no server for it."""

    status, reason = 409, "seat_lost"


class SpawnFailed(UserError):
    """JupyterHub could not start the server."""

    status, reason = 500, "spawn_failed"


class TicketInvalid(UserError):
    """The ticket's signature is invalid, or it is for another server."""

    status, reason = 403, "ticket_invalid"


class TicketExpired(TicketInvalid):
    """The ticket is valid, but too old."""

    reason = "ticket_expired"


class TicketUsed(TicketInvalid):
    """The ticket is valid, but was used before."""

    reason = "ticket_used"


class StorageUnavailable(UserError):
    """The storage service could not grant this launch its storage."""

    status, reason = 503, "storage_unavailable"


class DaskUnavailable(UserError):
    """dask-gateway could not provide this launch's cluster."""

    status, reason = 503, "dask_unavailable"


class PolicyInvalid(UserError):
    """The policy file has mistakes; the message lists all of them as `file:line: problem`."""

    reason = "policy_invalid"


_REFUSAL = re.compile(r"\[(?P<reason>\w+)\] (?P<message>[^\n]*)\n(?P<hint>.*)", re.DOTALL)


def refusal_text(error: UserError) -> str:
    """Return `error` as one text, for services that forward only texts (JupyterHub)."""
    return f"[{error.reason}] {error.message}\n{error.hint}"


def refusal_from(text: str) -> UserError | None:
    """Return the error written by `refusal_text`; None for any other text, which is not for people."""
    found = _REFUSAL.fullmatch(text)
    if found is None:
        return None
    named: tuple[type[UserError], ...] = (*UserError.__subclasses__(), *TicketInvalid.__subclasses__())
    kinds = {kind.reason: kind for kind in named}
    return kinds.get(found["reason"], SpawnFailed)(found["message"], found["hint"])
