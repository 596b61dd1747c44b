"""Serves `GET <base url>/pangeo-binder/notices`: the session's remaining time, for display in a page or a notebook.

The hub ends a session at the time in PANGEO_BINDER_ENDS_AT (seconds since the epoch).
"""

import math
import os
import time

from jupyter_server.base.handlers import APIHandler
from jupyter_server.utils import url_path_join
from tornado import web


class NoticesHandler(APIHandler):
    """Handler of the session's notices as JSON; only for users of the server."""

    _track_activity = False  # a page that polls must not keep an idle session alive

    @web.authenticated
    def get(self):
        """Return `ends_at` (epoch seconds) and `minutes_left`, both null if the session has no end."""
        self.finish(notices(os.environ, time.time()))


def notices(environ, now):
    """Return the handler's answer at `now` (epoch seconds)."""
    try:
        ends_at = int(environ.get("PANGEO_BINDER_ENDS_AT", ""))
    except ValueError:
        return {"ends_at": None, "minutes_left": None, "message": ""}
    minutes = max(0, math.floor((ends_at - now) / 60))
    message = "This session ends in {} minutes. Download what you want to keep.".format(minutes)
    return {"ends_at": ends_at, "minutes_left": minutes, "message": message}


def add_handlers(web_app):
    """Add the notices handler to the server."""
    url = url_path_join(web_app.settings["base_url"], "pangeo-binder", "notices")
    web_app.add_handlers(".*$", [(url, NoticesHandler)])
