"""Any DOI: `/v2/doi/<doi>`, which leads to a record of one of the kinds of archives. Runs in the binder."""

from __future__ import annotations

from collections.abc import Sequence

from ..archives.doi import find_address
from ..errors import BadLink
from ..model import Click, Link, Repo, RepoRef
from .base import ProviderForm
from .hosts import RepositoryPeers
from .records import DOI_START, PUBLIC_RESOLVER, RecordProvider, doi_in


class DoiProvider(RecordProvider):
    """Provider of the records that DOIs lead to; what it resolves is of the kind that was found."""

    name = "doi"
    display_name = "DOI"
    link_hint = "Links look like /v2/doi/10.5281/zenodo.3242074."
    form = ProviderForm(
        label="DOI of data or software",
        placeholder="10.5281/zenodo.3242074",
        default_ref="",
        url_encode=False,
        detect=rf"^{DOI_START}(?<repo>10\.[0-9]{{4,9}}\/\S+)$",
        pattern=rf"^{DOI_START}10\.[0-9]{{4,9}}\/\S+$",
    )

    def __init__(
        self,
        kinds: Sequence[RecordProvider],
        resolver: str = PUBLIC_RESOLVER,
        peers: RepositoryPeers | None = None,
    ) -> None:
        """`kinds` are those to which a DOI may lead."""
        super().__init__(resolver, peers)
        self._kinds = {kind.name: kind for kind in kinds}

    def read(self, text: str) -> RepoRef | None:
        return None

    async def find(self, ref: RepoRef) -> Repo:
        doi = self.repository(ref)
        named = self._named(doi) or self._named(await find_address(self._resolver, doi, self._asker))
        if named:
            kind, found = named
            return await kind.find(found)
        names = ", ".join(kind.display_name for kind in self._kinds.values())
        raise BadLink("This DOI leads to a place that this binder does not know.", f"It knows {names}.")

    def _named(self, text: str) -> tuple[RecordProvider, RepoRef] | None:
        """Return the record that `text` names, and its kind."""
        return next(((kind, found) for kind in self._kinds.values() if (found := kind.read(text))), None)

    async def resolve(self, ref: RepoRef) -> Repo:
        return await self.find(ref)

    def repository(self, ref: RepoRef) -> str:
        return doi_in(ref.url, self._resolver)

    def link(self, click: Click, repo: Repo) -> Link:
        return self._kinds[repo.ref.provider].link(click, repo)
