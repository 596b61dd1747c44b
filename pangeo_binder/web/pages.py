"""The plain pages: landing, about, the end of a session, and whatever is not there. Binder process."""

from __future__ import annotations

from .failure import PageNotFound, SessionEnded
from .handler import BaseHandler


class LandingPage(BaseHandler):
    """Says what this is, offers examples, and makes links and badges."""

    def get(self) -> None:
        self.page("landing.html")

    head = get


class AboutPage(BaseHandler):
    """Says what runs here, what is limited and where to read on."""

    def get(self) -> None:
        self.page("about.html")

    head = get


class EndedPage(BaseHandler):
    """Answers for a server that is gone: the hub's proxy sends its addresses here once nobody else takes them."""

    def prepare(self) -> None:
        self.set_header("Cache-Control", "no-store")
        self.set_status(SessionEnded.status)
        if self.wants_json or self.request.method not in ("GET", "HEAD"):
            self.finish({"message": "This session has ended.", "reason": SessionEnded.reason})
        else:
            self.page("ended.html")


class NotFoundPage(BaseHandler):
    """Every address that is none of ours."""

    def prepare(self) -> None:
        raise PageNotFound("There is no page at this address.", "Check the link, or start at the front page.")
