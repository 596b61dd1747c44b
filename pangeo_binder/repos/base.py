"""What a provider of repositories is: it reads a link's spec and looks its ref up.

One file per kind of provider stands beside this one. Runs in the binder; not for fetching files (`build.checkout`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from ..errors import RefNotFound
from ..model import Repo, RepoRef


class Provider(ABC):
    """A kind of place repositories are at.

    The story of a link `/v2/<name>/<spec>`: `parse` reads the spec without asking anybody, then `resolve` finds the
    commit. A driver fills `parse` and `find_commit`.
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

    async def resolve(self, ref: RepoRef) -> Repo:
        """Return the repository at the commit that `ref` stands for now. Raises RepoNotFound or RefNotFound."""
        commit = await self.find_commit(ref)
        if len(commit) not in (40, 64):
            raise RefNotFound(f"{ref.url} gave no full commit for `{ref.ref}`.", "Try a branch or a tag.")
        return Repo(ref, commit)
