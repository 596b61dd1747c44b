"""Pure: what a launch link says should open in the server, and that it stays inside the server.

mybinder.org's links say it with `urlpath`, `labpath` or `filepath`:
https://mybinder.readthedocs.io/en/latest/howto/user_interface.html
`static/enter.js` checks the same once more in the browser, against the server's real address. Binder process.
"""

from __future__ import annotations

import re
from urllib.parse import quote, unquote

from ..errors import UserError

DEFAULT = "lab"
_SCHEME = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*:")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class BadPath(UserError):
    """The path to open does not stay inside the server."""

    reason = "bad_path"


def checked(urlpath: str) -> str:
    """Return `urlpath` without its leading slash.

    Raises BadPath where a browser could read it as leaving the server: a scheme, a host (`//`), a backslash, a control
    character (browsers drop tabs and line ends before they parse), or `..`, however it is encoded.
    """
    path = re.split(r"[?#]", urlpath, maxsplit=1)[0]
    climbs = ".." in unquote(path).split("/")
    if urlpath.startswith("//") or "\\" in urlpath or _SCHEME.match(urlpath) or _CONTROL.search(urlpath) or climbs:
        raise BadPath("The path to open must stay inside the server.", "Give a path such as lab/tree/index.ipynb.")
    return urlpath.removeprefix("/")


def urlpath_of(urlpath: str, labpath: str, filepath: str) -> str:
    """Return the path to open: `urlpath` wins, then `labpath`, then `filepath`, else JupyterLab. Raises BadPath."""
    if urlpath:
        return checked(urlpath) or DEFAULT
    file = labpath or filepath
    if not file:
        return DEFAULT
    checked(file.replace(":", "_"))  # a colon is fine in a file's name, which is never read as a scheme
    return checked("lab/tree/" + quote(file.lstrip("/")))
