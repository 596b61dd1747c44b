"""Static files, and the badges that stand in other people's READMEs. Binder process."""

from __future__ import annotations

from datetime import datetime

from tornado.web import StaticFileHandler

from .handler import BaseHandler, Site

_DAY_SECONDS = 24 * 3600
_YEAR_SECONDS = 365 * _DAY_SECONDS


class StaticFile(BaseHandler, StaticFileHandler):
    """A static file: kept for a year under its version's address, else asked for anew each time."""

    open_to_all = True

    def initialize(self, site: Site) -> None:  # type: ignore[override]  # every handler of ours takes the site
        BaseHandler.initialize(self, site)
        StaticFileHandler.initialize(self, path=str(site.static))

    def get_cache_time(self, path: str, modified: datetime | None, mime_type: str) -> int:
        # a replica of another version must not have its file kept under our version's address
        current = self.get_query_argument("v", "") == self.site.version(path) != ""
        return _YEAR_SECONDS if current else 0


class RootFile(StaticFile):
    """A static file with an address of its own that others link to: a badge, robots.txt."""

    def get_cache_time(self, path: str, modified: datetime | None, mime_type: str) -> int:
        return _DAY_SECONDS
