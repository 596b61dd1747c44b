"""What a provider of repositories is: it reads a link's spec and looks its ref up.

One file per kind of provider stands beside this one. Runs in the binder; not for fetching files (`builders.checkout`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from ..errors import RefNotFound
from ..model import Repo, RepoRef


@dataclass(frozen=True, slots=True)
class Provenance:
    """Whether a commit counts as the own of the repository whose address it is asked for at."""

    foreign_reason: str = ""
    """The sentence that says why it does not count; empty where it does."""
    served: str = ""
    """The address that answered, where redirects led to another one than the link's; else empty."""


class Provider(ABC):
    """A kind of place repositories are at.

    The story of a link `/v2/<name>/<spec>`: `parse` reads the spec without asking anybody, then `resolve` finds the
    commit; where the policy wants to know it, `known_provenance` or `find_provenance` says whose commit it is. A driver
    fills `parse`, `find_commit` and these two.
    """

    name: ClassVar[str]
    """The first part of a link."""
    display_name: ClassVar[str]
    """What the launch page's form calls it."""

    @abstractmethod
    def parse(self, spec: str) -> RepoRef:
        """Return what `spec` (still quoted, as it stands in the link) names. Raises BadLink."""

    @abstractmethod
    async def find_commit(self, ref: RepoRef) -> str:
        """Return the full commit id `ref` stands for now. Raises RepoNotFound or RefNotFound."""

    @abstractmethod
    def known_provenance(self, repo: Repo) -> Provenance | None:
        """Return the provenance of the commit where it is known; asked for every launch, so it asks nobody."""

    @abstractmethod
    async def find_provenance(self, repo: Repo) -> Provenance:
        """Return the provenance of the commit, whatever that takes. Raises RepoNotFound."""

    async def resolve(self, ref: RepoRef) -> Repo:
        """Return the repository at the commit that `ref` stands for now. Raises RepoNotFound or RefNotFound."""
        commit = await self.find_commit(ref)
        if len(commit) not in (40, 64):
            raise RefNotFound(f"{ref.url} gave no full commit for `{ref.ref}`.", "Try a branch or a tag.")
        return Repo(ref, commit)
