"""Convert any error to the UserError that is shown to the user; only this module does that.

A UserError is shown unchanged. Any other error is logged with its traceback under an id, and the user sees only the id.
Binder process.
"""

from __future__ import annotations

import logging
import secrets
from http import HTTPStatus

from tornado.web import HTTPError

from ..errors import UserError

log = logging.getLogger("pangeo_binder.web")


class PageNotFound(UserError):
    """No page exists at this URL."""

    status, reason = 404, "page_not_found"


class SessionEnded(UserError):
    """The URL belongs to a server that no longer exists."""

    status, reason = 404, "session_ended"


class BadRequest(UserError):
    """This service does not answer such a request."""

    status, reason = 400, "bad_request"

    def __init__(self, status: int) -> None:
        super().__init__(f"The request cannot be answered: {HTTPStatus(status).phrase.lower()}.")
        self.status = status


class Incident(UserError):
    """An internal error; `reason` is its id in the log."""

    status = 500

    def __init__(self, id_: str) -> None:
        super().__init__(
            "An internal error occurred.",
            f"Try again in a minute. If it happens again, send this id to the operators: {id_}",
        )
        self.reason = id_


def to_user_error(error: BaseException, doing: str) -> UserError:
    """Return the error to show to the user; log an internal error with its traceback.

    `doing` describes the request in the log, without secrets.
    """
    if isinstance(error, UserError):
        return error
    if isinstance(error, HTTPError) and error.status_code == HTTPStatus.NOT_FOUND:
        return PageNotFound("There is no page at this URL.", "Check the link, or start at the front page.")
    if isinstance(error, HTTPError) and error.status_code < HTTPStatus.INTERNAL_SERVER_ERROR:
        return BadRequest(error.status_code)
    id_ = secrets.token_hex(4)
    log.error("[%s] %s", id_, doing, exc_info=error)
    return Incident(id_)
