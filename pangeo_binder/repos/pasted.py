"""Read an address that a user pasted: a launch link or its badge, a page of a forge, a DOI, or a repository. Pure.

`templates/static/address.js` reads the same addresses in the landing page's form; a test compares the two. Used by the
commands.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import unquote

from .base import ProviderForm

# texts with a badge, as READMEs have them
_SNIPPET = re.compile(r"\]\(|:target:|href=")
_BADGE_TARGET = re.compile(r"""https?://[^\s"'<>()]+/(?:v2|repo)/[^\s"'<>()]+""")
_LAUNCH = re.compile(r"https?://[^?#\s]*?/v2/([A-Za-z0-9-]+)/([^?#\s]+)\??([^#\s]*)")
_OLD_LAUNCH = re.compile(r"https?://[^?#\s/]*binder[^?#\s/]*/repo/([^/?#\s]+/[^/?#\s]+)/?([^?#\s]*)\??([^#\s]*)")
_DOI = re.compile(r"(?:doi:|https?://(?:dx\.)?doi\.org/)?10\.\d{4,9}/", re.IGNORECASE)
_GIST_HOST = re.compile(r"(?:https?://|(?:ssh://)?git@)gist\.github\.com[/:]")  # without its owner, a gist has no link
_HOST_ONLY = re.compile(r"(?:[\w-]+\.)+[a-z]{2,}/\S")
_TWICE = re.compile(r"[^/]*%(?:2F|3A)[^/]*", re.IGNORECASE)
"""A repository that is still quoted: some badges are quoted twice."""

_NBVIEWER = r"^https?://nbviewer\.(?:jupyter\.)?org"
_NOTEBOOKS = r"^https?://(?:nbviewer\.(?:jupyter\.)?org|colab\.research\.google\.com)"
_VIEWERS = (
    (r"^git\+(?=https?:)", ""),
    (rf"{_NOTEBOOKS}/github/", "https://github.com/"),
    (rf"{_NOTEBOOKS}/gist/", "https://gist.github.com/"),
    (rf"{_NBVIEWER}/urls/", "https://"),
    (rf"{_NBVIEWER}/url/", "http://"),
    (r"^https?://(?:github\.dev|codespaces\.new|vscode\.dev/github|githubtocolab\.com)/", "https://github.com/"),
    (r"^https?://raw\.githubusercontent\.com/([^/]+/[^/]+)/", r"https://github.com/\1/blob/"),
    (r"^https?://gist\.githubusercontent\.com/([^/]+/[^/]+)/raw/", r"https://gist.github.com/\1/"),
)
"""Sites that show files of other hosts, and the address of the file there."""

_REPO = r"(https?://[^/\s?#]+/[^/\s?#]+/[^/\s?#]+)/"
_PROJECT = r"(https?://[^\s?#]+?)/-/"
_REF_AND_PATH = r"(?:refs/(?:heads|tags)/)?([^/?#]+)/?([^?#]*)"
_NAMES = r"(?:[^?#]*?\.\.\.?)?([^?#]+)"
_GIST = r"(https?://gist\.github\.com/[\w-]+/[0-9a-f]+)(?:/([0-9a-f]{40}))?(?:/([^?#/]*\.[^?#/]*))?(?:[/?#].*)?$"


@dataclass(frozen=True, slots=True)
class Pasted:
    """What an address names, in the terms of the landing page's form."""

    kind: str
    repo: str
    """The repository as a user of this kind types it: its address or its name."""
    ref: str = ""
    """Empty if the address names none."""
    path: str = ""
    """A file or folder of the repository; empty if the address names none."""
    query: str = ""
    """Of a launch link: its query, which says what to open."""
    is_link: bool = False
    """Whether it is a launch link, whose repository only its kind reads."""


def _compared(repo: str, head: str) -> tuple[str, ...]:
    """Return the repository and ref of the second part of a comparison.

    GitHub names a branch of a fork as `user:branch` or `user:repository:branch`.
    """
    names = unquote(head).split(":")
    if len(names) == 1:
        return repo, head
    parts = repo.split("/")
    parts[3] = names[0]
    if len(names) > 2:
        parts[4] = names[1]
    return "/".join(parts), names[-1]


def _as_found(*found: str) -> tuple[str, ...]:
    return found


_PAGES: tuple[tuple[re.Pattern[str], Callable[..., tuple[str, ...]]], ...] = tuple(
    (re.compile(pattern), parts)
    for pattern, parts in (
        (_GIST, _as_found),
        (rf"{_REPO}pull/\d+/commits/([0-9a-f]{{40}})", _as_found),
        (rf"{_REPO}pulls?/(\d+)", lambda repo, number: (repo, f"refs/pull/{number}/head")),
        (rf"{_PROJECT}merge_requests/(\d+)", lambda repo, number: (repo, f"refs/merge-requests/{number}/head")),
        (rf"{_PROJECT}compare/{_NAMES}", _as_found),
        (rf"{_PROJECT}(?:tree|blob|raw|blame|edit|commits?|tags|releases)/{_REF_AND_PATH}", _as_found),
        (_PROJECT, _as_found),
        (rf"{_REPO}compare/{_NAMES}", _compared),
        (rf"{_REPO}archive/(?:refs/(?:heads|tags)/)?([^?#]+?)\.(?:zip|tar\.gz)", _as_found),
        (rf"{_REPO}src/(?:branch|tag|commit)/{_REF_AND_PATH}", _as_found),
        (r"(https?://bitbucket\.org/[^/\s]+/[^/\s]+)/src/([^/?#]+)/?([^?#]*)", _as_found),
        (rf"{_REPO}(?:tree|blob|raw|blame|edit|commits?|releases/tag)/{_REF_AND_PATH}", _as_found),
    )
)
"""Pages of forges: a pattern, and the repository, ref and path in what it finds."""


def is_address(text: str) -> bool:
    """Return whether `text` may be an address, and not a repository's name or a folder."""
    return ":" in text or bool(_DOI.match(text) or _HOST_ONLY.match(text))


def must_be_known(text: str) -> bool:
    """Return whether `text` is an address of a form that only a kind of repository of its own can read."""
    return any(form.search(text) for form in (_SNIPPET, _LAUNCH, _OLD_LAUNCH)) or _DOI.match(text) is not None


def read_address(text: str, forms: Mapping[str, ProviderForm]) -> Pasted | None:
    """Return what `text` names, or None if that is not an address. `forms` are those of the kinds, by their names."""
    if _SNIPPET.search(text):
        target = _BADGE_TARGET.search(text)
        text = target[0].replace("&amp;", "&") if target else ""
    if launch := _LAUNCH.match(text):
        return _of_launch(launch[1], launch[2], launch[3], forms)
    if old := _OLD_LAUNCH.match(text):
        return _of_launch("gh", f"{old[1]}/{old[2]}", old[3], forms)
    if _DOI.match(text):
        archives = (name for name, form in forms.items() if not form.default_ref and _matches(form.detect, text))
        return Pasted(name, text) if (name := next(archives, "")) else None
    complete = f"https://{text}" if _HOST_ONLY.match(text) else text
    address = complete
    for site, shown in _VIEWERS:
        address = re.sub(site, shown, address)
    repo, ref, path = _on_forge(address)
    for shorter in _prefixes(repo):
        for name, form in forms.items():
            if _matches(form.detect, shorter):
                return Pasted(name, shorter, ref, path)
    if complete != text or _GIST_HOST.match(repo):
        return None
    any_host = (name for name, form in forms.items() if not form.detect and _matches(form.pattern, repo))
    return Pasted(name, repo, ref, path) if (name := next(any_host, "")) else None


def repository_in(text: str, form: ProviderForm) -> str:
    """Return the repository's name in the typed `text`, as links of its kind have it."""
    found = _search(form.detect, text)
    return found["repo"] if found and "repo" in found.re.groupindex and found["repo"] else text


def _matches(expression: str, text: str) -> bool:
    return _search(expression, text) is not None


def _search(expression: str, text: str) -> re.Match[str] | None:
    """Search `text` for a JavaScript `expression`, whose named groups are written differently; None if it is empty."""
    if not expression or "\n" in text:  # in Python, `$` also matches before a newline at the end
        return None
    return re.search(expression.replace("(?<repo>", "(?P<repo>"), text)


def _on_forge(address: str) -> tuple[str, str, str]:
    for pattern, parts in _PAGES:
        if found := pattern.match(address):
            repo, ref, path = (*parts(*(group or "" for group in found.groups())), "", "")[:3]
            return repo, unquote(ref), unquote(path).rstrip("/")
    return address, "", ""


def _prefixes(address: str) -> Iterator[str]:
    """Yield the address, then shorter ones, because a forge has other pages below a repository's address."""
    yield address
    parts = re.split(r"[?#]", address, maxsplit=1)[0].rstrip("/").split("/")
    while len(parts) >= 5:
        yield "/".join(parts)
        parts.pop()


def _of_launch(kind: str, spec: str, query: str, forms: Mapping[str, ProviderForm]) -> Pasted | None:
    if kind not in forms:
        return None
    form, parts = forms[kind], spec.rstrip("/").split("/")
    count = (1 if form.url_encode else 2) if form.default_ref else len(parts)
    names, ref = [unquote(part) for part in parts[:count]], unquote("/".join(parts[count:]))
    if len(names) < count or (count > 1 and form.default_ref and any("/" in name for name in names)):
        return None
    repo = "/".join(names)
    return Pasted(kind, unquote(repo) if _TWICE.fullmatch(repo) else repo, ref, query=query, is_link=True)
