"""The page of a person's own sessions: what runs, open, stop, and what is left of the limits. Binder process."""

from __future__ import annotations

from http import HTTPStatus

from ..model import Launch, server_address
from ..policy.units import duration_text, size_text
from .context import OwnServer
from .failure import PageNotFound
from .handler import BaseHandler
from .signin import CSRF, SignedIn
from .urlpath import DEFAULT


class _SessionsHandler(BaseHandler):
    """Handler for people who signed in, whatever the launches of others need."""

    must_sign_in = True

    @property
    def _signed(self) -> SignedIn:
        assert self.signed is not None  # else `prepare` has answered
        return self.signed

    async def own(self, launch_id: str) -> OwnServer:
        """Return one session of this person. Raises PageNotFound for all others, whether they exist or not."""
        for each in await self.people.sessions(self._signed.person.name):
            if each.launch.id == launch_id:
                return each
        raise PageNotFound("You have no such session.", "It may have ended. Your sessions are at the top of each page.")


class SessionsPage(_SessionsHandler):
    """List of one's own sessions."""

    async def get(self) -> None:
        self.set_header("Cache-Control", "no-store")
        own = await self.people.sessions(self._signed.person.name)
        launches = [each.launch for each in own]
        seats = self.people.seats(self._signed.person.name, launches)
        self.page("sessions.html", sessions=own, seats=seats, size=size_text, minutes=duration_text)


class OpenSession(_SessionsHandler):
    """Page whose script opens one session, as the launch page does after a launch."""

    async def get(self, launch_id: str) -> None:
        self.set_header("Cache-Control", "no-store")
        self.allow_forms_to_sessions()
        found = await self.own(launch_id)
        self.page("open.html", launch=found.launch, token=found.token, url=self._url(found.launch), urlpath=DEFAULT)

    def _url(self, launch: Launch) -> str:
        hub_url = f"{self.request.protocol}://{self.request.host}{self.shared.context.hub_url}"
        return server_address(hub_url, self.session_domain, launch)


class StopSession(_SessionsHandler):
    """Form that stops one session."""

    async def post(self, launch_id: str) -> None:
        self.signin.check_form(self.signed, self.get_body_argument(CSRF, ""), cross_site=self.is_foreign_form)
        await self.people.stop((await self.own(launch_id)).launch)
        self.redirect(f"{self.shared.context.base_url}sessions", status=HTTPStatus.SEE_OTHER)
