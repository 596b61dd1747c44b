"""Parses a repository as users type it, and makes its launch link and badge. Shared by the commands."""

from __future__ import annotations

import html
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Named:
    """A repository as a user names it, and what its address opens in the session."""

    repo: RepoRef
    urlpath: str = ""
    labpath: str = ""

    def link(self, base_url: str, urlpath: str = "") -> str:
        """Return its launch link at the binder `base_url`; `urlpath` wins over the address. Raises BadPath."""
        from ..web.urlpath import urlpath_of

        opens = ("urlpath", urlpath or self.urlpath) if urlpath or self.urlpath else ("labpath", self.labpath)
        urlpath_of(urlpath or self.urlpath, self.labpath, "")
        query = f"?{opens[0]}={quote(opens[1], safe='')}" if opens[1] else ""
        return f"{link(base_url, self.repo)}{query}"


def read_repo(text: str, ref: str = "") -> Named:
    """Return what `text` names: a repository in the forms of links, a folder, or any address that the form reads too.

    `ref` overrides a ref in `text`; the default is `HEAD`. Raises BadLink if `text` names no repository.
    """
    from ..repos.pasted import is_address, must_be_known, read_address, repository_in
    from ..repos.registry import make_providers
    from ..web.urlpath import paths_in

    text = text.strip()
    providers = {provider.name: provider for provider in make_providers(allow_local=True)}
    forms = {name: provider.form for name, provider in providers.items()}
    kind = text.partition("/")[0]
    is_other = kind in providers or not is_address(text) or (":" not in text and _folder(text) is not None)
    found = None if is_other else read_address(text, forms)
    if found is None and kind not in providers and must_be_known(text):
        raise BadLink("The address does not name a repository of a known kind.", _HINT)
    if found is None and kind in providers and not forms[kind].default_ref:
        if ref:
            raise _no_refs()
        return Named(providers[kind].parse(text.partition("/")[2]))
    if found is None:
        return Named(_typed(text, ref))
    form = forms[found.kind]
    if ref and not form.default_ref:
        raise _no_refs()
    named = found.repo if found.is_link else repository_in(found.repo, form)
    repository = quote(named, safe="" if form.url_encode else "/")
    spec = f"{repository}/{quote(ref or found.ref or form.default_ref, safe='/')}" if form.default_ref else repository
    urlpath, labpath, filepath = paths_in(found.query)
    return Named(providers[found.kind].parse(spec), urlpath, labpath or filepath or found.path)


def _no_refs() -> BadLink:
    return BadLink("A record of an archive has no branch or tag.", "Leave the ref out.")


def _typed(text: str, ref: str) -> RepoRef:
    kind, repository, written_ref = _split(text)
    return _provider(kind).parse(f"{repository}/{quote(ref or written_ref or 'HEAD', safe='/')}")


def parse_repo(text: str, ref: str = "") -> RepoRef:
    """Return the repository that `text` names, as `read_repo` does. Raises BadLink."""
    return read_repo(text, ref).repo


def is_record(repo: RepoRef) -> bool:
    """Return whether `repo` is a record of an archive, whose files are always its own."""
    from ..model import FetchKind

    return _provider(repo.provider).fetch is FetchKind.ARCHIVE


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
        folder = _folder(text)
        if folder is None:
            raise BadLink(f"`{text}` is neither a repository's address nor a folder on this machine.", _HINT)
        url, ref = str(folder), ""
    return "git", quote(url, safe=""), ref


def _folder(text: str) -> Path | None:
    """Return the folder of this machine that `text` names; None if there is none."""
    try:
        folder = Path(text).expanduser()
        return folder.resolve() if text and folder.is_dir() else None
    except (OSError, RuntimeError, ValueError):  # a name too long, an unknown user, or a null character
        return None


def _split_hosted(kind: str, text: str) -> tuple[str, str]:
    """Return the quoted repository and the ref in the text after `gh/`, `gist/` or `gl/`.

    GitLab's groups nest; BinderHub's links quote them (`gl/group%2Fsubgroup%2Frepo/ref`), people write `gl/org/repo`.
    """
    first, _, rest = text.partition("/")
    if kind == "gl" and "%2f" in first.lower():
        return first, unquote(rest)
    repo, _, ref = rest.partition("/")
    return f"{first}{'%2F' if kind == 'gl' else '/'}{repo}", unquote(ref)
