"""HydroShare: `/v2/hydroshare/<id>`, also a resource's DOI or address. Runs in the binder.

A resource that is not published may change: its revision is when it last did.
"""

from __future__ import annotations

import re

from ..archives.hydroshare import files_url, find_version
from ..model import Repo, RepoRef
from .base import ProviderForm
from .hosted import HostedAt
from .hosts import RepositoryPeers
from .records import DOI_START, PUBLIC_RESOLVER, RecordProvider, doi_in, path_below

PUBLIC_HYDROSHARE = "https://www.hydroshare.org"

_ID = re.compile(r"[0-9a-f]{32}")
_DOI = re.compile(r"10\.4211/hs\.([0-9a-f]{32})", re.IGNORECASE)
_PAGE = re.compile(r"resource/([0-9a-f]{32})(?:[/?].*)?")


class HydroshareProvider(RecordProvider):
    """Provider of resources of HydroShare."""

    name = "hydroshare"
    display_name = "HydroShare"
    link_hint = "Links look like /v2/hydroshare/8f7c2f0341ef4180b0dbe97f59130756."

    def __init__(
        self,
        address: str = PUBLIC_HYDROSHARE,
        resolver: str = PUBLIC_RESOLVER,
        peers: RepositoryPeers | None = None,
    ) -> None:
        """`address` is that of the archive's pages; its API is below it. Raises ValueError for an invalid one."""
        super().__init__(resolver, peers)
        self._address = HostedAt(address).url("").rstrip("/")
        host = self._address.partition("://")[2].removeprefix("www.").replace(".", r"\.").replace("/", r"\/")
        typed = rf"^(?:{DOI_START}10\.4211\/hs\.|(?:https?:\/\/)?(?:www\.)?{host}\/resource\/)?"
        self.form = ProviderForm(
            label="HydroShare resource id, or its address",
            placeholder="8f7c2f0341ef4180b0dbe97f59130756",
            default_ref="",
            detect=rf"{typed}(?<repo>[0-9a-f]{{32}})(?:[\/?#].*)?$",
            pattern=rf"{typed}[0-9a-f]{{32}}(?:[\/?#].*)?$",
        )

    def read(self, text: str) -> RepoRef | None:
        if _ID.fullmatch(text):
            return self._ref(text)
        found = _DOI.fullmatch(doi_in(text, self._resolver))
        found = found or _PAGE.fullmatch(path_below(self._address, text) or "")
        return self._ref(found[1].lower()) if found else None

    async def find(self, ref: RepoRef) -> Repo:
        resource = self.repository(ref)
        version = await find_version(self._address, resource, self._asker)
        return Repo(ref, f"{resource}.v{version}", self.fetch, files_url(self._address, resource))

    def repository(self, ref: RepoRef) -> str:
        if path_below(self._address, ref.url) is None:
            return doi_in(ref.url, self._resolver)
        return ref.url.rpartition("/")[2]

    def _ref(self, resource: str) -> RepoRef:
        return RepoRef(self.name, f"{self._address}/resource/{resource}", "")
