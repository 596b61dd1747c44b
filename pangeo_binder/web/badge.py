"""Static files, and the badges that READMEs link to. Binder process."""

from __future__ import annotations

from datetime import datetime

from tornado.web import StaticFileHandler

from .handler import BaseHandler, Shared

_DAY_SECONDS = 24 * 3600
_YEAR_SECONDS = 365 * _DAY_SECONDS


class StaticFile(BaseHandler, StaticFileHandler):
    """A static file: cached for a year if its URL has the current version, else revalidated on each request."""

    open_to_all, needs_login = True, False

    def initialize(self, shared: Shared) -> None:  # type: ignore[override]  # all our handlers take `shared`
        BaseHandler.initialize(self, shared)
        StaticFileHandler.initialize(self, path=str(shared.static))

    def get_cache_time(self, path: str, modified: datetime | None, mime_type: str) -> int:
        # during an upgrade, a replica of another version must not be cached under this version's URL
        current = self.get_query_argument("v", "") == self.shared.version(path) != ""
        return _YEAR_SECONDS if current else 0


class RootFile(StaticFile):
    """A static file with a fixed URL that others link to: a badge, robots.txt."""

    def get_cache_time(self, path: str, modified: datetime | None, mime_type: str) -> int:
        return _DAY_SECONDS
