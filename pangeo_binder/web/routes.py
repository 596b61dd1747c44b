"""The table of the binder's addresses. Binder process."""

from __future__ import annotations

import re
from typing import Any

from .api import HealthApi, MetricsApi, RepoProvidersApi, VersionsApi
from .badge import RootFile, StaticFile
from .context import WebContext
from .handler import BaseHandler, Site
from .launch import LaunchPage, LegacyLink
from .pages import AboutPage, EndedPage, LandingPage, NotFoundPage
from .stream import BuildStream

Route = tuple[str, type[BaseHandler], dict[str, Any]]

_TABLE: tuple[tuple[str, type[BaseHandler]], ...] = (
    ("", LandingPage),
    ("about", AboutPage),
    ("v2/[^/]+/.+", LaunchPage),
    ("repo/[^/]+/[^/]+(?:/.*)?", LegacyLink),
    ("build/[^/]+/.+", BuildStream),
    ("health", HealthApi),
    ("versions", VersionsApi),
    ("metrics", MetricsApi),
    ("api/repoproviders", RepoProvidersApi),
    (r"(badge\.svg|badge_logo\.svg|robots\.txt)", RootFile),
    (r"static/([a-z0-9_.-]+)", StaticFile),
)


def routes(context: WebContext) -> list[Route]:
    """Return the handlers of one binder, for `tornado_app.add_handlers(r".*$", ...)`; the last takes what is left."""
    shared = {"site": Site(context)}
    base = re.escape(context.base_url)
    table: list[Route] = [(base + pattern, handler, shared) for pattern, handler in _TABLE]
    table.append((re.escape(context.hub_url) + "user/.*", EndedPage, shared))
    table.append((".*", NotFoundPage, shared))
    return table
