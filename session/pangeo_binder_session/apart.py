"""Keeps this session's pages and cookies from other sessions' and sites', as far as a server can.

With a host of its own, the browser does the rest. Without one, the browser treats all sessions as one site: the path of
a cookie does not separate them, and these settings prevent accidents, not attacks.
"""


def keep_apart(web_app):
    """Let no page of another origin hold this session's window, and send its `_xsrf` cookie to this server only.

    What the repository's own configuration says of these stays.
    """
    settings = web_app.settings
    settings.setdefault("headers", {}).setdefault("Cross-Origin-Opener-Policy", "same-origin")
    settings.setdefault("xsrf_cookie_kwargs", {}).setdefault("path", settings.get("base_url", "/"))
