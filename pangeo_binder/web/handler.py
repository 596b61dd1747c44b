"""The base of all handlers: security headers, pages from templates, errors told to people.

`Site` is what they share: the context, the gate, the templates and the static files. Binder process.
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

from ..errors import UserError
from ..model import RepoRef
from ..repos.registry import provider_for
from ..resources import resource
from .context import WebContext
from .failure import told
from .limits import Caller, Gate, host_of, network_of

_VERSION_LENGTH = 12
# the user and password of an address within a link, quoted there or not: refused, and not for a log either
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


class Site:
    """What all handlers of one binder share."""

    def __init__(self, context: WebContext) -> None:
        self.context = context
        self.gate = Gate(context.limits)
        self._templates = Environment(
            loader=FileSystemLoader(resource("templates")),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.globals.update(site=self, context=context, base=context.base_url)

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
        """Return the version of the static file `name`, which changes with its content; empty where there is none."""
        return self._versions.get(name, "")

    def asset(self, name: str) -> str:
        """Return the address of the static file `name`, which a browser may keep for ever."""
        return f"{self.context.base_url}static/{name}?v={self._versions[name]}"

    def render(self, template: str, **values: Any) -> str:
        """Return the page that `template` makes of `values`."""
        return self._templates.get_template(template).render(**values)


class BaseHandler(RequestHandler):
    """A handler whose errors become a page, or JSON for a client that asks for it."""

    site: Site
    open_to_all = False
    """Whether banned networks get an answer as well (monitoring, badges on other sites' pages)."""

    def initialize(self, site: Site) -> None:
        self.site = site

    def set_default_headers(self) -> None:
        """Keep the page to itself: a server's token passes through here, so nothing external is ever loaded."""
        self.clear_header("Server")
        self.set_header("Content-Security-Policy", CONTENT_SECURITY_POLICY)
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Referrer-Policy", "no-referrer")
        self.set_header("X-Frame-Options", "DENY")
        self.set_header("Cache-Control", "no-cache")

    def prepare(self) -> None:
        self.site.gate.check_host(self.request.host)
        if not self.open_to_all:
            self.site.gate.check_network(self.caller.address)

    @property
    def caller(self) -> Caller:
        """Where this request comes from."""
        headers = self.request.headers
        origin = headers.get("Origin", "")
        return Caller(
            address=str(self.request.remote_ip),
            origin=origin,
            # browsers without Sec-Fetch-Site still name the origin of a page that is not ours
            cross_site=headers.get("Sec-Fetch-Site", "") in ("cross-site", "same-site")
            or (origin != "" and host_of(origin) != self.request.host),
            host=self.request.host,
        )

    @property
    def network(self) -> str:
        """The client's network as rules count it."""
        return network_of(self.caller.address)

    def after(self, prefix: str) -> str:
        """Return the request's path after the binder's `prefix`, as the browser encoded it.

        Tornado's captured groups are decoded, which would turn `https%3A%2F%2Fhost%2Frepo/main` into other parts.
        """
        return self.request.path.removeprefix(self.site.context.base_url + prefix)

    def page(self, template: str, **values: Any) -> None:
        """Answer with the page that `template` makes of `values`."""
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.finish(self.site.render(template, **values))

    def log_exception(self, *exc_info: Any) -> None:
        """Leave the log line to `told`, which gives it the id the person sees."""

    def _request_summary(self) -> str:
        # the base class logs the query as well, which may hold a token
        path = _USERINFO.sub(r"\1[secret]@", self.request.path)
        return f"{self.request.method} {path} ({self.request.remote_ip})"

    def error_of(self, status_code: int, **kwargs: Any) -> UserError:
        """Return what a person is told where Tornado ends the request with `status_code`."""
        exc_info = kwargs.get("exc_info")
        return told(exc_info[1] if exc_info else HTTPError(status_code), self._request_summary())

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        error = self.error_of(status_code, **kwargs)
        self.set_status(error.status)
        self.tell(error)

    @property
    def wants_json(self) -> bool:
        """Whether a program asks rather than a person."""
        accept = self.request.headers.get("Accept", "")
        return "application/json" in accept and "text/html" not in accept

    def tell(self, error: UserError) -> None:
        """Answer with `error`, in the form the client understands."""
        if self.wants_json:
            self.finish({"status": error.status, "reason": error.reason, "message": error.message, "hint": error.hint})
        else:
            self.page("error.html", error=error, title=HTTPStatus(error.status).phrase)
