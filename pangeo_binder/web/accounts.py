"""The pages of a login: `/login` begins it, `/oauth_callback` ends it, `/logout` ends what it gave. Binder process."""

from __future__ import annotations

from http import HTTPStatus

from ..errors import NotAllowed
from .handler import BaseHandler
from .people import LoginFailed, local_address
from .signin import CSRF

_PARAMETER_CHARACTERS = 8192


class LoginPage(BaseHandler):
    """Redirect to the hub's login; `next` is the page of the binder to return to."""

    needs_person = False

    def get(self) -> None:
        self.set_header("Cache-Control", "no-store")
        host = self.session_domain
        if host and host != self.request.host:  # the hub's pages, and so the login's cookies, are at the first host
            self.redirect(f"{self.request.protocol}://{host}{self.request.uri}", status=HTTPStatus.SEE_OTHER)
            return
        next_ = local_address(self.get_query_argument("next", "", strip=False), self.shared.context.base_url)
        self.redirect(self.signin.begin(self, next_), status=HTTPStatus.SEE_OTHER)


class CallbackPage(BaseHandler):
    """Return from the hub: a new cookie, and a redirect to where the person came from."""

    needs_person = False

    async def get(self) -> None:
        self.set_header("Cache-Control", "no-store")
        if self.get_query_argument("error", ""):
            raise LoginFailed("JupyterHub did not allow this login.", "Sign in again, or with another account.")
        given = [self.get_query_argument(name, "")[:_PARAMETER_CHARACTERS] for name in ("state", "code")]
        begun = await self.signin.finish(self, *given)
        self.redirect(begun.next, status=HTTPStatus.SEE_OTHER)


class LogoutPage(BaseHandler):
    """End the login here and at the hub, where it would otherwise begin again without a question."""

    needs_person = False

    async def post(self) -> None:
        self.set_header("Cache-Control", "no-store")
        given = self.get_body_argument(CSRF, "")
        self.signin.check_form(self.signed, given, cross_site=self.is_foreign_form)
        self.redirect(self.signin.end(self), status=HTTPStatus.SEE_OTHER)

    def get(self) -> None:
        """Refuse a link, by which any page could end a login."""
        raise NotAllowed("Signing out needs the button of a page of this service.", "Use the button at the top.")
