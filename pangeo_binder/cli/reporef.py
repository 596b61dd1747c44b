"""Parses a repository as users type it, and makes its launch link and badge. Shared by the commands."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from ..errors import BadLink, UserError
from ..hosts import HOSTS

if TYPE_CHECKING:
    from ..model import RepoRef
    from ..repos.base import Provider

BadgeFormat = Literal["markdown", "rst", "html"]
FORMATS: tuple[BadgeFormat, ...] = ("markdown", "rst", "html")
_HINT = (
    "Give gh/org/repo/ref, gist/user/id, gl/org/repo/ref, git/<quoted address>/ref, zenodo/<doi>, an address such as "
    "https://…, or a folder."
)


class BadHub(UserError):
    """The given text is not a binder's address."""

    reason = "bad_hub"


def check_hub(text: str) -> str:
    """Return the binder's address `text` without its query, which may hold a token. Raises BadHub for other texts."""
    try:
        parts = urlsplit(text)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good or not text.isprintable() or set(text) & set(" \"'<>\\^`{|}"):
        raise BadHub(f"`{text}` is not a binder's address.", "Give one such as https://binder.example.org/ with --hub.")
    return text.partition("#")[0].partition("?")[0]


def parse_repo(text: str, ref: str = "") -> RepoRef:
    """Return the repository that `text` names. `ref` overrides a ref in `text`; the default is `HEAD`.

    Raises BadLink if `text` names no repository.
    """
    if record := _record(text.strip()):
        if ref:
            raise BadLink("A record of an archive has no branch or tag.", "Leave the ref out.")
        return record
    kind, repository, written_ref = _split(text.strip())
    return _provider(kind).parse(f"{repository}/{quote(ref or written_ref or 'HEAD', safe='/')}")


def link(base_url: str, repo: RepoRef, urlpath: str = "") -> str:
    """Return the launch link of `repo` at the binder `base_url`; it opens `urlpath` if given."""
    query = f"?urlpath={quote(urlpath, safe='')}" if urlpath else ""
    return f"{base_url.rstrip('/')}/v2/{_spec(repo)}{query}"


def build_link(base_url: str, repo: RepoRef) -> str:
    """Return the address of the event stream for a launch of `repo` at the binder `base_url`."""
    return f"{base_url.rstrip('/')}/build/{_spec(repo)}"


def with_token(address: str, token: str) -> str:
    """Return an address in a session with the session's token in its query, as the launch page adds it."""
    parts = urlsplit(quote(address, safe="%/:?#[]@!$&'()*+,;=~"))  # a person copies it: no spaces
    asked = [part for part in parts.query.split("&") if part and not part.startswith("token=")]
    return urlunsplit(parts._replace(query="&".join((*asked, f"token={quote(token)}"))))


def local_hub(state_dir: Path = Path(".state")) -> str:
    """Return the address of the binder last started with `state_dir`, else the default address of `up`."""
    from ..deploy.local.values import read_values
    from ..loopback import LOOPBACK

    try:
        return read_values(state_dir).public_url
    except FileNotFoundError:
        return f"http://{LOOPBACK}:8585/"


def login_token(address: str, state_dir: Path) -> str:
    """Return the token of the stack at `state_dir` if `address` is one of its own; empty otherwise.

    Scheme, host and port have to be the same, so that no other service gets the token.
    """
    from ..deploy.local.values import ValuesInvalid, read_values

    try:
        values = read_values(state_dir)
    except (FileNotFoundError, ValuesInvalid):
        return ""
    own, asked = urlsplit(values.public_url), urlsplit(address)
    same = (own.scheme, own.hostname, own.port) == (asked.scheme, asked.hostname, asked.port)
    return values.binder_token if same else ""


def _spec(repo: RepoRef) -> str:
    return f"{repo.provider}/{_provider(repo.provider).spec(repo)}"


def _provider(kind: str) -> Provider:
    from ..repos.registry import make_providers, provider_for

    return provider_for(make_providers(allow_local=True), kind)


def _record(text: str) -> RepoRef | None:
    """Return the record of an archive that `text` names as `<kind>/<spec>` or by its address; None for others."""
    from ..model import FetchKind
    from ..repos.registry import make_providers

    kind, _, spec = text.partition("/")
    for each in make_providers():
        if each.fetch is not FetchKind.ARCHIVE:
            continue
        if each.name == kind and spec:
            return each.parse(spec)
        # any site may have `/dataset/` in an address, so CKAN's have to be written with their kind
        if each.name != "ckan" and ":" in text and re.search(each.form.pattern, text):
            return each.parse(quote(text, safe=""))
    return None


def badge_text(base_url: str, target: str, form: BadgeFormat) -> str:
    """Return the text of a badge from the binder `base_url` that links to the launch link `target`."""
    image = f"{base_url.rstrip('/')}/badge_logo.svg"
    match form:
        case "markdown":
            return f"[![Launch]({image})]({target})"
        case "rst":
            return f".. image:: {image}\n   :alt: Launch\n   :target: {target}"
        case "html":
            return f'<a href="{html.escape(target)}"><img src="{html.escape(image)}" alt="Launch"></a>'


def _split(text: str) -> tuple[str, str, str]:
    """Return the kind, the quoted repository and the ref in `text`; the ref is empty if absent."""
    kind, _, rest = text.partition("/")
    if kind in HOSTS:
        return kind, *_split_hosted(kind, rest)
    if kind == "git" and rest:
        address, _, ref = rest.partition("/")
        quoted = "%" in address or ":" not in address
        url, ref = (unquote(address), unquote(ref)) if quoted else (rest, "")
    elif "://" in text or ":" in kind:
        url, ref = text, ""
    else:
        folder = Path(text).expanduser()
        if not text or not folder.is_dir():
            raise BadLink(f"`{text}` is neither a repository's address nor a folder on this machine.", _HINT)
        url, ref = str(folder.resolve()), ""
    return "git", quote(url, safe=""), ref


def _split_hosted(kind: str, text: str) -> tuple[str, str]:
    """Return the quoted repository and the ref in the text after `gh/`, `gist/` or `gl/`.

    GitLab's groups nest; BinderHub's links quote them (`gl/group%2Fsubgroup%2Frepo/ref`), people write `gl/org/repo`.
    """
    first, _, rest = text.partition("/")
    if kind == "gl" and "%2f" in first.lower():
        return first, unquote(rest)
    repo, _, ref = rest.partition("/")
    return f"{first}{'%2F' if kind == 'gl' else '/'}{repo}", unquote(ref)
