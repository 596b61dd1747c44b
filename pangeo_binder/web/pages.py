"""The simple pages: landing page, about, session ended, and not found. Binder process."""

from __future__ import annotations

from .failure import PageNotFound, SessionEnded
from .handler import BaseHandler


class LandingPage(BaseHandler):
    """Page that introduces the service, offers examples, and makes links and badges."""

    def get(self) -> None:
        self.page("landing.html")

    head = get


class AboutPage(BaseHandler):
    """Page with the limits of this service, the versions, and links to documentation."""

    def get(self) -> None:
        self.page("about.html")

    head = get


class EndedPage(BaseHandler):
    """Answer for a server that no longer exists: the hub's proxy sends requests without a route to the binder.

    It is the same for every address, and is read by sessions' pages, whose users may never have opened the binder.
    """

    needs_login = False

    async def prepare(self) -> None:
        self.set_header("Cache-Control", "no-store")
        at_session_host = self.shared.limits.is_session_host(self.request.host)
        if not at_session_host:
            await super().prepare()
        if at_session_host and self.request.method == "GET" and not self.wants_json:
            # no page of ours has a session's origin, and only ours remembers the launch link
            self.redirect(f"{self.request.protocol}://{self.session_domain}{self.request.path}")
            return
        self.set_status(SessionEnded.status)
        if self.wants_json or self.request.method not in ("GET", "HEAD"):
            self.finish({"message": "This session has ended.", "reason": SessionEnded.reason})
        else:
            self.page("ended.html")


class NotFoundPage(BaseHandler):
    """Answer for every other URL."""

    def get(self) -> None:
        hint = "Check the link, or start at the front page."
        if self.shared.context.api_only:
            hint = "This service has no pages. Programs launch with /build/<provider>/<spec>."
        raise PageNotFound("There is no page at this URL.", hint)

    head = post = put = patch = delete = options = get
