"""Dataverse: `/v2/dataverse/<doi>`, also the address of a dataset at any known installation. Runs in the binder.

A DOI is that of a dataset, or of one of its files: then its dataset is launched.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import parse_qs, quote, urlsplit

from ..archives.base import OWN_HOST
from ..archives.dataverse import PERSISTENT_ID, files_url, find_dataset
from ..archives.installations import INSTALLATIONS
from ..model import Repo, RepoRef
from .base import ProviderForm
from .hosted import HostedAt
from .hosts import RepositoryPeers
from .records import DOI_START, PUBLIC_RESOLVER, RecordProvider, doi_in, path_below

ALL_PUBLIC = "*"
PUBLIC_DATAVERSES = tuple(f"https://{host}" for host in INSTALLATIONS)

_PAGES = ("dataset.xhtml", "citation", "file.xhtml")


class DataverseProvider(RecordProvider):
    """Provider of datasets of the installations of Dataverse."""

    name = "dataverse"
    display_name = "Dataverse"
    link_hint = "Links look like /v2/dataverse/10.7910/DVN/TJCLKP."
    form = ProviderForm(
        label="DOI of a Dataverse dataset, or its address",
        placeholder="10.7910/DVN/TJCLKP",
        default_ref="",
        url_encode=False,
        detect=rf"^(?:https?:\/\/.+\?(?:.*&)?persistentId=doi:|{DOI_START})(?<repo>10\.[0-9]{{4,9}}\/[^\s&#]+)",
        pattern=rf"^(?:https?:\/\/\S+\/(?:dataset\.xhtml|citation)\?\S*persistentId=\S+|{DOI_START}10\.[0-9]{{4,9}}\/\S+)$",
    )

    def __init__(
        self,
        addresses: Sequence[str] = (ALL_PUBLIC,),
        resolver: str = PUBLIC_RESOLVER,
        peers: RepositoryPeers | None = None,
    ) -> None:
        """`addresses` are those of the installations, `*` for all public ones. Raises ValueError for an invalid one."""
        super().__init__(resolver, peers)
        own = (HostedAt(each).url("").rstrip("/") for each in addresses if each != ALL_PUBLIC)
        self._hosts = (*own, *(PUBLIC_DATAVERSES if ALL_PUBLIC in addresses else ()))

    def read(self, text: str) -> RepoRef | None:
        for host in self._hosts:
            if (path := path_below(host, text)) is not None and (dataset := _dataset(path)):
                # the page's address has the id in its query, which policy rules do not see
                return RepoRef(self.name, f"{host}/{dataset}", "")
        return None

    async def find(self, ref: RepoRef) -> Repo:
        host, own = self._host(ref), self._host(ref) not in PUBLIC_DATAVERSES
        dataset, revision = await find_dataset(host, ref.url.removeprefix(f"{host}/"), own, self._asker)
        url = files_url(host, dataset) + (OWN_HOST if own else "")
        return Repo(RepoRef(self.name, f"{host}/{dataset}", ""), revision, self.fetch, url)

    def repository(self, ref: RepoRef) -> str:
        return self._page(ref) or doi_in(ref.url, self._resolver)

    def browser_url(self, repo: Repo) -> str:
        return self._page(repo.ref)

    def spec(self, ref: RepoRef) -> str:
        return quote(self._page(ref), safe="") or super().spec(ref)

    def _page(self, ref: RepoRef) -> str:
        host = self._host(ref)
        return f"{host}/dataset.xhtml?persistentId={ref.url.removeprefix(f'{host}/')}" if host else ""

    def _host(self, ref: RepoRef) -> str:
        """Return the installation of a dataset; empty for a DOI."""
        return next((host for host in self._hosts if ref.url.startswith(f"{host}/")), "")


def _dataset(path: str) -> str:
    """Return the persistent id in the path and query of a page, or in the form of `RepoRef.url`; empty if none."""
    parts = urlsplit(f"/{path}")
    named = parse_qs(parts.query).get("persistentId", [""])[0] if parts.path[1:] in _PAGES else path
    if not PERSISTENT_ID.fullmatch(named) or {".", ".."} & set(named.split("/")):
        return ""
    return named.rstrip("/")
