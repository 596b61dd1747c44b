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
from urllib.parse import parse_qsl, quote, urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from tornado.web import HTTPError, RequestHandler

from ..errors import BadLink, LoginNeeded, UserError
from ..model import RepoRef
from ..repos.registry import provider_for
from ..resources import resource
from .context import People, WebContext
from .failure import to_user_error
from .language import Language, choose, read_languages
from .limits import Caller, LimitChecker, host_of, network_of
from .login import PARAMETER, Login, LoginRequired, without_token
from .resume import Launches
from .signin import SignedIn, SignIn
from .urlpath import OPENS, BadPath, paths_in

_LINK_CHARACTERS = 8192
"""The maximum length of a link: room for a URL of 2,048 characters, each of them percent-encoded, and a ref."""
_LOGGED_CHARACTERS = 1000
_VERSION_LENGTH = 12
_LANGUAGE, _LANGUAGE_COOKIE = "lang", "pangeo-binder-language"
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
        self.launches = Launches(context.resume)
        self.signin = SignIn(context.people) if context.people is not None else None
        self.languages = read_languages(resource("templates") / "locale")
        self._templates = {code: self._environment(language) for code, language in self.languages.items()}

    def _environment(self, language: Language) -> Environment:
        environment = Environment(
            loader=FileSystemLoader(resource("templates")),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=["jinja2.ext.i18n"],
        )
        environment.policies["ext.i18n.trimmed"] = True
        # the extension adds this method to the environment
        environment.install_gettext_translations(language.texts, newstyle=True)  # type: ignore[attr-defined]
        environment.globals.update(asset=self.asset, spec=self.spec, context=self.context, base=self.context.base_url)
        environment.globals.update(language=language, languages=self.languages.values())
        return environment

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

    def render(self, template: str, language: str, **values: Any) -> str:
        """Return the page rendered from `template` with `values` in the language with the code `language`."""
        return self._templates[language].get_template(template).render(**values)


class BaseHandler(RequestHandler):
    """Handler that answers errors with a page, or with JSON if the client requests it."""

    shared: Shared
    open_to_all = False
    """Whether banned networks also get an answer (monitoring, badges on other sites' pages)."""
    needs_login = True
    """Whether the token is needed, if this binder has one."""
    needs_person = True
    """Whether only people who signed in get an answer, if this binder wants everybody to."""
    must_sign_in = False
    """Whether only people who signed in get an answer, whatever this binder wants of others."""
    signed: SignedIn | None = None
    """Who sent the request, if that person signed in."""
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

    async def prepare(self) -> None:
        self.shared.limits.check_host(self.request.host)
        if not self.open_to_all:
            self.shared.limits.check_network(self.caller.address)
        if self.needs_login:
            self._log_in()
        if not self._finished:
            await self._identify()

    async def _identify(self) -> None:
        """Find out who sent the request, and have a browser sign in if that is needed. Raises LoginNeeded."""
        signin = self.shared.signin
        if signin is None or not self.needs_login:
            return
        self.signed = await signin.of(self.request)
        if self.signed is not None or not (self.must_sign_in or (signin.is_required and self.needs_person)):
            return
        if self.request.method != "GET" or self.wants_json:
            raise LoginNeeded("This service needs a login.", "Sign in, or send a JupyterHub token.")
        self.redirect(self.login_address, status=HTTPStatus.SEE_OTHER)

    @property
    def login_address(self) -> str:
        """The address at which a person signs in and then returns to this page."""
        opens = urlencode(self._opens, quote_via=quote)
        here = f"{self.request.path}?{opens}" if opens else self.request.path
        return f"{self.shared.context.base_url}login?{urlencode({'next': here})}"

    @property
    def people(self) -> People:
        """What this binder needs for logins; only for handlers that a binder without logins does not have."""
        assert self.shared.context.people is not None
        return self.shared.context.people

    @property
    def signin(self) -> SignIn:
        """The logins of this binder; see `people`."""
        assert self.shared.signin is not None
        return self.shared.signin

    def allow_forms_to_sessions(self) -> None:
        """Let the page's forms send a session's token to the session's own host."""
        if self.session_domain:
            own, sessions = "form-action 'self'", f"form-action 'self' *.{self.session_domain}"
            self.set_header("Content-Security-Policy", CONTENT_SECURITY_POLICY.replace(own, sessions))

    def allow(self, directive: str) -> None:
        """Add a directive to the page's Content-Security-Policy."""
        policy = self._headers["Content-Security-Policy"]
        self.set_header("Content-Security-Policy", f"{policy}; {directive}")

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

    @cached_property
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
    def is_foreign_form(self) -> bool:
        """Whether the browser says that a form comes from a page of another host.

        Our own forms have the Origin `null`, because our pages have the referrer policy `no-referrer`:
        https://fetch.spec.whatwg.org/#append-a-request-origin-header
        """
        headers = self.request.headers
        foreign = headers.get("Sec-Fetch-Site", "") in ("cross-site", "same-site")
        return foreign or (self.caller.cross_site and headers.get("Origin", "") != "null")

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
        self.set_header("Vary", "Accept-Language, Cookie")
        origin = f"{self.request.protocol}://{self.request.host}"  # previews of links need absolute addresses
        logins = self.shared.signin is not None
        shown = {"signed": self.signed, "logins": logins, "login": self.login_address, "origin": origin, **values}
        shown["in_language"] = self._in_language
        self.finish(self.shared.render(template, self.language, **shown))

    @property
    def language(self) -> str:
        """The code of this page's language; a link of the page's foot chooses another, which a cookie keeps."""
        asked, languages = self._queried.get(_LANGUAGE, ""), self.shared.languages
        if asked in languages:
            self.set_cookie(
                _LANGUAGE_COOKIE, asked, path=self.shared.context.base_url, expires_days=365, samesite="Lax"
            )
            return asked
        accepted = self.request.headers.get("Accept-Language", "")
        return choose(languages, self.get_cookie(_LANGUAGE_COOKIE, ""), accepted)

    def _in_language(self, code: str) -> str:
        """Return the query of this page's address in the language with the code `code`."""
        return f"?{urlencode(self._opens | {_LANGUAGE: code})}"

    @property
    def _opens(self) -> dict[str, str]:
        """What the address names to open; addresses on the page repeat nothing else of it, which may be a token."""
        try:
            paths = zip(OPENS, paths_in(self.request.query), strict=True)
        except BadPath:  # this is then the page that says so
            return {}
        return {name: path for name, path in paths if path}

    @property
    def _queried(self) -> dict[str, str]:
        """The query's arguments; unlike Tornado's own methods, this reads any bytes, as the page of an error must."""
        return dict(parse_qsl(self.request.query))

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
