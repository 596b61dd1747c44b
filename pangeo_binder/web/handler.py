"""The base class of all handlers: security headers, pages from templates, and error responses.

`Shared` holds what the handlers share: the context, the limits, the templates and the static files. Binder process.
"""

from __future__ import annotations

import hashlib
import re
from functools import cached_property
from http import HTTPStatus
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from tornado.web import HTTPError, RequestHandler

from ..errors import BadLink, UserError
from ..model import RepoRef
from ..repos.registry import provider_for
from ..resources import resource
from .context import WebContext
from .failure import to_user_error
from .limits import Caller, LimitChecker, host_of, network_of
from .login import PARAMETER, Login, LoginRequired, without_token

_LINK_CHARACTERS = 8192
"""The maximum length of a link: room for a URL of 2,048 characters, each of them percent-encoded, and a ref."""
_LOGGED_CHARACTERS = 1000
_VERSION_LENGTH = 12
# the user name and password in a repository URL, quoted or not: links with them are refused, and no log may show them
_USERINFO = re.compile(r"((?::|%3A)(?:/|%2F){2})(?:(?!/|%2F).)*(?:@|%40)", re.IGNORECASE)

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)


class Shared:
    """State that all handlers of one binder share."""

    def __init__(self, context: WebContext) -> None:
        self.context = context
        self.limits = LimitChecker(context.limits)
        self.login = Login(context.login_token)
        self._templates = Environment(
            loader=FileSystemLoader(resource("templates")),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.globals.update(asset=self.asset, spec=self.spec, context=context, base=context.base_url)

    @cached_property
    def static(self) -> Path:
        """The folder of the static files."""
        return resource("templates") / "static"

    @cached_property
    def _versions(self) -> dict[str, str]:
        files = (path for path in self.static.iterdir() if path.is_file())
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest()[:_VERSION_LENGTH] for path in files}

    def spec(self, ref: RepoRef) -> str:
        """Return the spec of `ref` for a `/v2/<provider>/<spec>` link. Raises BadLink for an unknown provider."""
        return provider_for(self.context.providers, ref.provider).spec(ref)

    def version(self, name: str) -> str:
        """Return the version of the static file `name`, which changes with its content; empty if the file is absent."""
        return self._versions.get(name, "")

    def asset(self, name: str) -> str:
        """Return the URL of the static file `name`, with its version, so that browsers may cache it forever."""
        return f"{self.context.base_url}static/{name}?v={self._versions[name]}"

    def render(self, template: str, **values: Any) -> str:
        """Return the page rendered from `template` with `values`."""
        return self._templates.get_template(template).render(**values)


class BaseHandler(RequestHandler):
    """Handler that answers errors with a page, or with JSON if the client requests it."""

    shared: Shared
    open_to_all = False
    """Whether banned networks also get an answer (monitoring, badges on other sites' pages)."""
    needs_login = True
    """Whether the token is needed, if this binder has one."""
    asks_after_login = False
    """Whether the page asks its user before it does something, if the user came by the form for the token."""

    def initialize(self, shared: Shared) -> None:
        self.shared = shared

    def set_default_headers(self) -> None:
        """Block all external content, because pages handle the tokens of servers."""
        self.clear_header("Server")
        self.set_header("Content-Security-Policy", CONTENT_SECURITY_POLICY)
        self.set_header("Cross-Origin-Opener-Policy", "same-origin")
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Referrer-Policy", "no-referrer")
        self.set_header("X-Frame-Options", "DENY")
        self.set_header("Cache-Control", "no-cache")

    def prepare(self) -> None:
        self.shared.limits.check_host(self.request.host)
        if not self.open_to_all:
            self.shared.limits.check_network(self.caller.address)
        if self.needs_login:
            self._log_in()

    def _log_in(self) -> None:
        """Answer a request that contains the token with a cookie and a redirect; raise LoginRequired without login."""
        login, posted = self.shared.login, self.request.method == "POST"
        given = self.get_body_argument(PARAMETER, "") if posted else self.get_query_argument(PARAMETER, "")
        if login.accepts(given):
            path = self.shared.context.base_url
            self.set_cookie(login.cookie_name, login.cookie_value, path=path, httponly=True, samesite="Lax")
            self.set_header("Cache-Control", "no-store")
            address = without_token(self.request.path, self.request.query)
            if posted and self.asks_after_login:
                address += ("&" if "?" in address else "?") + "ask=true"
            self.redirect(address, status=HTTPStatus.SEE_OTHER)
            return
        login.check(self.request)

    @property
    def session_domain(self) -> str:
        """The domain of sessions' own hosts, with the port that the client uses; empty if they have none."""
        return self.shared.limits.session_domain(self.request.host)

    @property
    def caller(self) -> Caller:
        """The origin of this request."""
        headers = self.request.headers
        origin = headers.get("Origin", "")
        return Caller(
            address=str(self.request.remote_ip),
            origin=origin,
            # browsers without Sec-Fetch-Site still send the origin of a foreign page
            cross_site=headers.get("Sec-Fetch-Site", "") in ("cross-site", "same-site")
            or (origin != "" and host_of(origin) != self.request.host),
            host=self.request.host,
        )

    @property
    def network(self) -> str:
        """The client's network, for which rules count launches."""
        return network_of(self.caller.address)

    def after(self, prefix: str) -> str:
        """Return the request's path after the binder's `prefix`, still encoded as the browser sent it.

        Tornado decodes captured groups, so `https%3A%2F%2Fhost%2Frepo/main` would no longer split correctly.
        """
        return self.request.path.removeprefix(self.shared.context.base_url + prefix)

    def link(self, prefix: str) -> tuple[str, str]:
        """Return the provider and the spec of the link after `prefix`. Raises BadLink if it is too long."""
        link = self.after(prefix)
        if len(link) > _LINK_CHARACTERS:
            raise BadLink(f"The link is longer than {_LINK_CHARACTERS} characters.", "Check where the link comes from.")
        provider, _, spec = link.rstrip("/").partition("/")
        return provider, spec

    def page(self, template: str, **values: Any) -> None:
        """Answer with the page rendered from `template` with `values`."""
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.finish(self.shared.render(template, **values))

    def log_exception(self, *exc_info: Any) -> None:
        """Do nothing: `to_user_error` logs the error under the id that the user sees."""

    def _request_summary(self) -> str:
        # the base class also logs the query, which may contain a token
        path = _USERINFO.sub(r"\1[secret]@", self.request.path)[:_LOGGED_CHARACTERS]
        return f"{self.request.method} {path} ({self.request.remote_ip})"

    def error_of(self, status_code: int, **kwargs: Any) -> UserError:
        """Return the error to show to the user if Tornado ends the request with `status_code`."""
        exc_info = kwargs.get("exc_info")
        return to_user_error(exc_info[1] if exc_info else HTTPError(status_code), self._request_summary())

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        error = self.error_of(status_code, **kwargs)
        self.set_status(error.status)
        self._finish_with(error)

    @property
    def wants_json(self) -> bool:
        """Whether the client is a program that requests JSON; in API-only mode every client is."""
        accept = self.request.headers.get("Accept", "")
        return self.shared.context.api_only or ("application/json" in accept and "text/html" not in accept)

    def _finish_with(self, error: UserError) -> None:
        """Answer with `error` as JSON or as a page."""
        if self.wants_json:
            self.finish({"status": error.status, "reason": error.reason, "message": error.message, "hint": error.hint})
        elif isinstance(error, LoginRequired):
            self.page("login.html", error=error)
        else:
            self.page("error.html", error=error, title=HTTPStatus(error.status).phrase)
