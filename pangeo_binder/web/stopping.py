"""The event stream of a binder that stops: it starts no more launches. Binder process."""

from __future__ import annotations

from http import HTTPStatus

from ..errors import UserError
from ..events import failed, sse
from .stream import BuildStream

_RETRY_SECONDS = 5


class ServiceStopping(UserError):
    """This binder process is stopping; another one, or the next one, answers."""

    status, reason = 503, "service_stopping"


class LaunchStream(BuildStream):
    """Event stream of one launch; while the binder stops, only a sentence.

    It has the status 503, which no other refusal has: launch pages and BinderHub's clients then connect again.
    """

    async def prepare(self) -> None:
        await super().prepare()
        if self.request.method != "GET" or not self.shared.context.is_stopping():
            return
        self.set_status(HTTPStatus.SERVICE_UNAVAILABLE)
        self.set_header("Retry-After", str(_RETRY_SECONDS))
        self.set_header("Connection", "close")
        self.finish(sse(failed(ServiceStopping("This service restarts.", "Try again in a few seconds."))))
