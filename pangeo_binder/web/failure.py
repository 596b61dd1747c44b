"""The one place where an error becomes what a person is told.

A UserError is told as it is. Anything else is logged with its traceback under an id, and the person is told the id and
nothing more. Binder process.
"""

from __future__ import annotations

import logging
import secrets
from http import HTTPStatus

from tornado.web import HTTPError

from ..errors import UserError

log = logging.getLogger("pangeo_binder.web")


class PageNotFound(UserError):
    """There is nothing at this address."""

    status, reason = 404, "page_not_found"


class SessionEnded(UserError):
    """The address belongs to a server that is gone."""

    status, reason = 404, "session_ended"


class BadRequest(UserError):
    """The request is not one this service answers."""

    status, reason = 400, "bad_request"

    def __init__(self, status: int) -> None:
        super().__init__(f"The request cannot be answered: {HTTPStatus(status).phrase.lower()}.")
        self.status = status


class Incident(UserError):
    """Something broke here; `reason` is the id it was logged under."""

    status = 500

    def __init__(self, id_: str) -> None:
        super().__init__(
            "Something went wrong on our side.",
            f"Try again in a minute. If it stays, tell the operators this number: {id_}",
        )
        self.reason = id_


def told(error: BaseException, doing: str) -> UserError:
    """Return what a person is told of `error`; logs it with its traceback where it is not for people.

    `doing` says in the log what was asked for, without secrets.
    """
    if isinstance(error, UserError):
        return error
    if isinstance(error, HTTPError) and error.status_code == HTTPStatus.NOT_FOUND:
        return PageNotFound("There is no page at this address.", "Check the link, or start at the front page.")
    if isinstance(error, HTTPError) and error.status_code < HTTPStatus.INTERNAL_SERVER_ERROR:
        return BadRequest(error.status_code)
    id_ = secrets.token_hex(4)
    log.error("[%s] %s", id_, doing, exc_info=error)
    return Incident(id_)
