"""The interface of repository providers: parse a link's spec and resolve its ref.

Each kind of provider has its own module. Runs in the binder; not for fetching files (`builders.checkout`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar
from urllib.parse import quote

from ..hosts import HOSTS
from ..model import Click, FetchKind, Link, Repo, RepoRef

_WITH_TREES = tuple(f"{HOSTS[name].url}/" for name in ("gh", "gl"))
"""Hosts that show a revision at `<repository>/tree/<revision>`."""


@dataclass(frozen=True, slots=True)
class ProviderForm:
    """The landing page's form for one kind of repository, and how the page makes a link from it."""

    label: str
    """The label of the repository field, such as `Git repository URL`."""
    placeholder: str
    default_ref: str = "HEAD"
    """The ref that an empty field stands for; empty if this kind has no refs."""
    url_encode: bool = True
    """Whether the repository is one percent-encoded part of the link (`git`) or stays plain (`gh`)."""
    detect: str = ""
    """A JavaScript regular expression; its group `repo` is the repository's name in the text that the user typed."""
    pattern: str = ""
    """A JavaScript regular expression that matches every valid repository; empty for any text."""
    spec: str = ""
    """A JavaScript regular expression that matches every valid spec; empty for `<repository>/<ref>`, or without refs
    for any text. BinderHub's own pages read it."""


@dataclass(frozen=True, slots=True)
class Provenance:
    """Whether a revision belongs to the repository at the link's URL."""

    foreign_reason: str = ""
    """A sentence that says why the revision does not belong to it; empty if it does."""
    served: str = ""
    """The URL that served the repository if redirects led away from the link's URL; else empty."""


class Provider(ABC):
    """A kind of repository host.

    For a link `/v2/<name>/<spec>`, `parse` reads the spec without any request, then `resolve` finds the revision. If
    the policy depends on it, `known_provenance` or `find_provenance` returns its provenance. A driver implements
    `parse`, `find_revision` and these two.
    """

    name: ClassVar[str]
    """The first part of a link."""
    display_name: ClassVar[str]
    """The name shown on pages."""
    fetch: ClassVar[FetchKind]
    """How the builders fetch its repositories' files."""
    form: ProviderForm

    @abstractmethod
    def parse(self, spec: str) -> RepoRef:
        """Return the repository and ref in `spec`, which is quoted as in the link. Raises BadLink."""

    @abstractmethod
    async def find_revision(self, ref: RepoRef) -> str:
        """Return the current revision of `ref`. Raises RepoNotFound, RefNotFound or HostUnavailable."""

    @abstractmethod
    def known_provenance(self, repo: Repo) -> Provenance | None:
        """Return the provenance of the revision if it is known. Every launch calls this, so it makes no request."""

    @abstractmethod
    async def find_provenance(self, repo: Repo) -> Provenance:
        """Return the provenance of the revision; query its host if needed. Raises RepoNotFound or HostUnavailable."""

    async def resolve(self, ref: RepoRef) -> Repo:
        """Return the repository at the current revision of `ref`. Raises as `find_revision`."""
        return Repo(ref, await self.find_revision(ref), self.fetch)

    def repository(self, ref: RepoRef) -> str:
        """Return the repository of `ref` as a spec names it, not quoted; a kind with one host leaves the host out."""
        return ref.url

    def browser_url(self, repo: Repo) -> str:
        """Return the address of the repository at its revision for a browser, if known, else of the repository."""
        url = repo.ref.url.removesuffix(".git")
        return f"{url}/tree/{repo.revision}" if url.startswith(_WITH_TREES) else repo.ref.url

    def link(self, click: Click, repo: Repo) -> Link:
        """Return the link of a launch of `repo`."""
        resolved = self.spec(RepoRef(repo.ref.provider, repo.ref.url, repo.revision))
        return Link(
            host=click.binder_url,
            request=f"v2/{click.provider}/{click.spec}",
            persistent_request=f"v2/{self.name}/{resolved}",
            ref_url=self.browser_url(repo),
        )

    def spec(self, ref: RepoRef) -> str:
        """Return the spec of `ref` in the form that `parse` reads."""
        repository = quote(self.repository(ref), safe="" if self.form.url_encode else "/")
        return f"{repository}/{quote(ref.ref)}" if self.form.default_ref else repository
