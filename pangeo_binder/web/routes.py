"""The binder's URL routes. Binder process."""

from __future__ import annotations

import re
from typing import Any

from .api import HealthApi, MetricsApi, RepoProvidersApi, VersionsApi
from .badge import RootFile, StaticFile
from .context import WebContext
from .handler import BaseHandler, Shared
from .launch import LaunchPage, LegacyLink
from .pages import AboutPage, EndedPage, LandingPage, NotFoundPage
from .stream import BuildStream

Route = tuple[str, type[BaseHandler], dict[str, Any]]

_API: tuple[tuple[str, type[BaseHandler]], ...] = (
    ("build/[^/]+/.+", BuildStream),
    ("health", HealthApi),
    ("versions", VersionsApi),
    ("metrics", MetricsApi),
    ("api/repoproviders", RepoProvidersApi),
)
_PAGES: tuple[tuple[str, type[BaseHandler]], ...] = (
    ("", LandingPage),
    ("about", AboutPage),
    ("v2/[^/]+/.+", LaunchPage),
    ("repo/[^/]+/[^/]+(?:/.*)?", LegacyLink),
    (r"(badge\.svg|badge_logo\.svg|robots\.txt)", RootFile),
    (r"static/([a-z0-9_.-]+)", StaticFile),
)
"""What a binder in API-only mode does not have, as in BinderHub."""


def routes(context: WebContext) -> list[Route]:
    """Return the handlers of one binder, for `tornado_app.add_handlers(r".*$", ...)`; the last matches any path."""
    options = {"shared": Shared(context)}
    offered = _API if context.api_only else _API + _PAGES
    base = re.escape(context.base_url)
    table: list[Route] = [(base + pattern, handler, options) for pattern, handler in offered]
    table.append((re.escape(context.hub_url) + "user/.*", EndedPage, options))
    table.append((".*", NotFoundPage, options))
    return table
