"""The binder's URL routes. Binder process."""

from __future__ import annotations

import re
from typing import Any

from ..names import LAUNCH_ID
from .accounts import CallbackPage, LoginPage, LogoutPage
from .api import HealthApi, MetricsApi, RepoProvidersApi, VersionsApi
from .badge import RootFile, StaticFile
from .context import WebContext
from .handler import BaseHandler, Shared
from .launch import LaunchPage, LegacyLink
from .pages import AboutPage, EndedPage, LandingPage, NotFoundPage
from .preview import PreviewPage
from .sessions import OpenSession, SessionsPage, StopSession
from .stopping import LaunchStream

Route = tuple[str, type[BaseHandler], dict[str, Any]]

_API: tuple[tuple[str, type[BaseHandler]], ...] = (
    ("build/[^/]+/.+", LaunchStream),
    ("health", HealthApi),
    ("versions", VersionsApi),
    ("metrics", MetricsApi),
    ("api/repoproviders", RepoProvidersApi),
)
_PAGES: tuple[tuple[str, type[BaseHandler]], ...] = (
    ("", LandingPage),
    ("about", AboutPage),
    ("v2/[^/]+/.+", LaunchPage),
    ("preview/[^/]+/.+", PreviewPage),
    ("repo/[^/]+/[^/]+(?:/.*)?", LegacyLink),
    (r"(badge\.svg|badge_logo\.svg|robots\.txt)", RootFile),
    (r"static/([a-z0-9_.-]+)", StaticFile),
)
"""What a binder in API-only mode does not have, as in BinderHub."""


_PEOPLE: tuple[tuple[str, type[BaseHandler]], ...] = (
    ("login", LoginPage),
    ("oauth_callback", CallbackPage),
    ("logout", LogoutPage),
    ("sessions", SessionsPage),
    (rf"sessions/({LAUNCH_ID.strip('^$')})", OpenSession),
    (rf"sessions/({LAUNCH_ID.strip('^$')})/stop", StopSession),
)
"""The pages of a binder where people can sign in."""


def routes(context: WebContext) -> list[Route]:
    """Return the handlers of one binder, for `tornado_app.add_handlers(r".*$", ...)`; the last matches any path."""
    options = {"shared": Shared(context)}
    offered = _API if context.api_only else _API + _PAGES
    base = re.escape(context.base_url)
    if context.people is not None and not context.api_only:
        offered += _PEOPLE
    table: list[Route] = [(base + pattern, handler, options) for pattern, handler in offered]
    table.append((re.escape(context.hub_url) + "user/.*", EndedPage, options))
    table.append((".*", NotFoundPage, options))
    return table
