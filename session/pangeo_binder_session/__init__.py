"""What a pangeo-binder session needs inside its environment: a Jupyter Server extension, enabled by being installed.

It must work in whatever environment a repository brings (Python 3.8 and later, nothing but jupyter_server), and must
never hurt the server: where it is not in a session it does nothing.
"""


def _jupyter_server_extension_points():
    return [{"module": "pangeo_binder_session"}]


def _load_jupyter_server_extension(serverapp):
    """Start reporting activity and answer questions for notices."""
    from .activity import start
    from .notices import add_handlers

    start(serverapp)
    add_handlers(serverapp.web_app)
