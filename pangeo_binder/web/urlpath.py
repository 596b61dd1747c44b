"""Validate the path that a launch link opens in the server; it must stay inside the server. Pure.

As on mybinder.org, a link has it in `urlpath`, `labpath` or `filepath`:
https://mybinder.readthedocs.io/en/latest/howto/user_interface.html
`static/enter.js` repeats the check in the browser, against the server's real URL. Binder process.
"""

from __future__ import annotations

import re
from urllib.parse import quote, unquote, unquote_plus

from ..errors import UserError

DEFAULT = "lab"
OPENS = ("urlpath", "labpath", "filepath")
"""What a link's query names to open."""
MAX_CHARACTERS = 4096
_SCHEME = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*:")
# the pages of JupyterLab, Notebook 7 and Voilà
_NOTEBOOK = re.compile(r"(?:(?:lab|doc)(?:/workspaces/[^/]+)?/tree|notebooks|tree|voila/render)/(.+\.ipynb)")
_TWICE = re.compile(r"%(?:2F|3F)", re.IGNORECASE)
_OURS = re.compile(r"&(?:ask|token|lang)=[^&#]*")
"""Parameters of the launch page, not of the path."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class BadPath(UserError):
    """The path to open leads out of the server."""

    reason = "bad_path"


def validate(urlpath: str) -> str:
    """Return `urlpath` without its leading slash.

    Raises BadPath if a browser could leave the server with it: a scheme, a host (`//`), a backslash, a control
    character (browsers remove tabs and newlines before they parse a URL), or `..` in any encoding.
    """
    if len(urlpath) > MAX_CHARACTERS:
        raise BadPath(f"The path to open is longer than {MAX_CHARACTERS} characters.", "Use a shorter path.")
    path = re.split(r"[?#]", urlpath, maxsplit=1)[0]
    climbs = ".." in unquote(path).split("/")
    if urlpath.startswith("//") or "\\" in urlpath or _SCHEME.match(urlpath) or _CONTROL.search(urlpath) or climbs:
        raise BadPath("The path to open must stay inside the server.", "Use a path such as lab/tree/index.ipynb.")
    return urlpath.removeprefix("/")


def notebook_of(urlpath: str) -> str:
    """Return the path of the notebook in the repository that `urlpath` opens; empty if it opens none."""
    path = re.split(r"[?#]", urlpath, maxsplit=1)[0]
    found = _NOTEBOOK.fullmatch(path)
    return unquote(found[1]) if found else ""


def paths_in(query: str) -> tuple[str, str, str]:
    """Return `urlpath`, `labpath` and `filepath` of a link's query, which is quoted; each is empty if absent.

    The first of a name counts, as in URLSearchParams. Raises BadPath if one is not UTF-8.
    """
    first: dict[str, str] = {}
    rest = query
    while rest:
        part, _, after = rest.partition("&")
        name, _, quoted = part.partition("=")
        if name == "urlpath" and "?" in quoted and name not in first:
            # a path with a query of its own that is not quoted, as in old badges: the rest of the link belongs to it
            first[name] = _OURS.sub("", rest.partition("=")[2])
            break
        first.setdefault(name, _unquoted(quoted))
        rest = after
    return first.get("urlpath", ""), first.get("labpath", ""), first.get("filepath", "")


def _unquoted(text: str) -> str:
    try:
        return unquote_plus(text, errors="strict")
    except UnicodeDecodeError:
        raise BadPath("The path to open is not valid UTF-8.", "Check where the link comes from.") from None


def _quoted_once(path: str) -> str:
    """Return `path` without the second quoting that some badges have: then it holds `%2F` or `%3F` instead of `/`."""
    return unquote(path) if _TWICE.search(path) and not {"/", "?"} & set(path) else path


def urlpath_of(urlpath: str, labpath: str, filepath: str) -> str:
    """Return the path to open: `urlpath` wins, then `labpath`, then `filepath`, else JupyterLab. Raises BadPath."""
    if urlpath:
        return validate(_quoted_once(urlpath)) or DEFAULT
    file = _quoted_once(labpath or filepath)
    if not file:
        return DEFAULT
    validate(file.replace(":", "_"))  # a file name may contain a colon: browsers never read it as a scheme here
    return validate("lab/tree/" + quote(file.lstrip("/")))
