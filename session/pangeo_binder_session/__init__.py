"""The Jupyter Server extension of pangeo-binder sessions, enabled by its installation.

It must work in the environment of any repository (Python 3.8 and later, only jupyter_server), and must never break the
server. Outside a session it does nothing.
"""


def _jupyter_server_extension_points():
    return [{"module": "pangeo_binder_session"}]


def _load_jupyter_server_extension(serverapp):
    """Keep other sessions out as far as the browser allows, start reporting activity, and add the notices handler."""
    from .activity import start
    from .apart import keep_apart
    from .notices import add_handlers

    keep_apart(serverapp.web_app)
    start(serverapp)
    add_handlers(serverapp.web_app)
