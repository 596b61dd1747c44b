"""The one tree of errors, and the rule of who may see which.

Only a `UserError` is ever shown to a person: a sentence saying what is wrong and a hint saying what to do. Everything
else is logged with an id, and the person is told the id. Used in every process; not for turning errors into HTTP or
events, which `web` and `events` do.
"""

from __future__ import annotations

import re


class PangeoBinderError(Exception):
    """The root of every error this project raises itself."""


class UserError(PangeoBinderError):
    """An error whose text was written for the person who caused it or is hit by it.

    `message` is one sentence saying what is wrong, `hint` what to do about it (may be empty), `status` the HTTP status
    it has outside an event stream, `reason` the stable word used in metrics and logs.
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
    """The link's provider or spec cannot be read."""

    status, reason = 404, "bad_link"


class RepoNotFound(UserError):
    """No repository can be read at this address."""

    status, reason = 404, "repo_not_found"


class RefNotFound(UserError):
    """The repository has no such branch, tag or commit."""

    status, reason = 404, "ref_not_found"


class NotAllowed(UserError):
    """The policy denies this launch."""

    status, reason = 403, "not_allowed"


class QuotaExceeded(UserError):
    """The policy would allow this launch, but what it shares is used up."""

    status, reason = 429, "quota_exceeded"


class BuildFailed(UserError):
    """The repository's environment could not be made."""

    status, reason = 422, "build_failed"


class HubUnavailable(UserError):
    """JupyterHub does not answer or does not answer as it should."""

    status, reason = 503, "hub_unavailable"


class HubStarting(UserError):
    """JupyterHub has just started and waits for the binders to report the launches that hold a seat."""

    status, reason = 503, "hub_starting"


class SeatLost(UserError):
    """The launch holds no seat (any more), so the hub starts no server for it."""

    status, reason = 409, "seat_lost"


class SpawnFailed(UserError):
    """JupyterHub could not bring the server up."""

    status, reason = 500, "spawn_failed"


class TicketInvalid(UserError):
    """The ticket is not one of ours, or not for this server."""

    status, reason = 403, "ticket_invalid"


class TicketExpired(TicketInvalid):
    """The ticket was good, but is too old."""

    reason = "ticket_expired"


class TicketUsed(TicketInvalid):
    """The ticket was good, but was used before."""

    reason = "ticket_used"


class StorageUnavailable(UserError):
    """The storage service could not give this launch its storage."""

    status, reason = 503, "storage_unavailable"


class DaskUnavailable(UserError):
    """dask-gateway could not give this launch its cluster."""

    status, reason = 503, "dask_unavailable"


class PolicyInvalid(UserError):
    """The policy file has mistakes; the message lists all of them as `file:line: problem`."""

    reason = "policy_invalid"


_REFUSAL = re.compile(r"\[(?P<reason>\w+)\] (?P<message>[^\n]*)\n(?P<hint>.*)", re.DOTALL)


def refusal_text(error: UserError) -> str:
    """Return `error` as one text, for services that pass on nothing but texts (JupyterHub)."""
    return f"[{error.reason}] {error.message}\n{error.hint}"


def refusal_from(text: str) -> UserError | None:
    """Return the error that `refusal_text` wrote, or None where `text` is anything else and not for people."""
    found = _REFUSAL.fullmatch(text)
    if found is None:
        return None
    named: tuple[type[UserError], ...] = (*UserError.__subclasses__(), *TicketInvalid.__subclasses__())
    kinds = {kind.reason: kind for kind in named}
    return kinds.get(found["reason"], SpawnFailed)(found["message"], found["hint"])
