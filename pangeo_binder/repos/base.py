"""What a provider of repositories is: it reads a link's spec and looks its ref up.

One file per kind of provider stands beside this one. Runs in the binder; not for fetching files (`builders.checkout`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar
from urllib.parse import quote, urlsplit

from ..model import FetchKind, Repo, RepoRef


@dataclass(frozen=True, slots=True)
class ProviderForm:
    """What the landing page asks for one kind of repository, and how it makes a link of the answers."""

    label: str
    """What the repository field asks for, such as `Git repository URL`."""
    placeholder: str
    default_ref: str = "HEAD"
    """What an empty ref means; empty if this kind has no refs."""
    url_encode: bool = True
    """Whether the repository is one percent-encoded part of the link, as for `git`, or plain as for `gh`."""
    detect: str = ""
    """A JavaScript regular expression whose group `repo` is the repository's name within the text a person typed."""
    pattern: str = ""
    """A JavaScript regular expression that matches all possible repositories; empty for any text."""


@dataclass(frozen=True, slots=True)
class Provenance:
    """Whether a commit counts as the own of the repository whose address it is asked for at."""

    foreign_reason: str = ""
    """The sentence that says why it does not count; empty where it does."""
    served: str = ""
    """The address that answered, where redirects led to another one than the link's; else empty."""


class Provider(ABC):
    """A kind of place repositories are at.

    The story of a link `/v2/<name>/<spec>`: `parse` reads the spec without any request, then `resolve` finds the
    revision. If the policy depends on it, `known_provenance` or `find_provenance` says whose revision it is. A driver
    fills `parse`, `find_revision` and these two.
    """

    name: ClassVar[str]
    """The first part of a link."""
    display_name: ClassVar[str]
    """What people call it."""
    fetch: ClassVar[FetchKind]
    """How its repositories' files are fetched."""
    form: ProviderForm

    @abstractmethod
    def parse(self, spec: str) -> RepoRef:
        """Return what `spec` (still quoted, as it stands in the link) names. Raises BadLink."""

    @abstractmethod
    async def find_revision(self, ref: RepoRef) -> str:
        """Return the revision `ref` stands for now. Raises RepoNotFound or RefNotFound."""

    @abstractmethod
    def known_provenance(self, repo: Repo) -> Provenance | None:
        """Return the provenance of the revision if it is known; called for every launch, so it makes no request."""

    @abstractmethod
    async def find_provenance(self, repo: Repo) -> Provenance:
        """Return the provenance of the revision, asking its host if needed. Raises RepoNotFound."""

    async def resolve(self, ref: RepoRef) -> Repo:
        """Return the repository at the revision that `ref` stands for now. Raises RepoNotFound or RefNotFound."""
        return Repo(ref, await self.find_revision(ref), self.fetch)

    def spec(self, ref: RepoRef) -> str:
        """Return the spec of `ref`, which `parse` reads."""
        plain = urlsplit(ref.url).path.strip("/").removesuffix(".git")
        repository = quote(ref.url, safe="") if self.form.url_encode else quote(plain)
        return f"{repository}/{quote(ref.ref)}" if self.form.default_ref else repository
