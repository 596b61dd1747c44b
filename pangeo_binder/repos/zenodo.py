"""Zenodo: `/v2/zenodo/10.5281/zenodo.<id>`, also a record's address or id. Runs in the binder.

The DOI of all versions leads to the newest one.
"""

from __future__ import annotations

import re

from ..archives.zenodo import files_url, find_record
from ..model import Repo, RepoRef
from .base import ProviderForm
from .hosted import HostedAt
from .hosts import RepositoryPeers
from .records import DOI_START, PUBLIC_RESOLVER, RecordProvider, doi_in, path_below

PUBLIC_ZENODO = "https://zenodo.org"

_DOI = re.compile(r"10\.5281/zenodo\.([0-9]{1,12})", re.IGNORECASE)
_PAGE = re.compile(r"(?:records?/|doi/10\.5281/zenodo\.)([0-9]{1,12})(?:[/?].*)?")


class ZenodoProvider(RecordProvider):
    """Provider of records of Zenodo."""

    name = "zenodo"
    display_name = "Zenodo"
    link_hint = "Links look like /v2/zenodo/10.5281/zenodo.3242074."

    def __init__(
        self,
        address: str = PUBLIC_ZENODO,
        resolver: str = PUBLIC_RESOLVER,
        peers: RepositoryPeers | None = None,
    ) -> None:
        """`address` is that of the archive's pages; its API is below it. Raises ValueError for an invalid one."""
        super().__init__(resolver, peers)
        self._address = HostedAt(address).url("").rstrip("/")
        host = self._address.partition("://")[2].replace(".", r"\.").replace("/", r"\/")
        page = rf"(?:https?:\/\/)?(?:www\.)?{host}\/(?:records?|doi)\/"
        record = r"10\.5281\/zenodo\.[0-9]+|[0-9]+"
        self.form = ProviderForm(
            label="Zenodo DOI, or address of a record",
            placeholder="10.5281/zenodo.3242074",
            default_ref="",
            url_encode=False,
            detect=rf"^(?:{page}|{DOI_START})(?<repo>{record})(?:[\/?#].*)?$",
            pattern=rf"^(?:{page}|{DOI_START})(?:{record})(?:[\/?#].*)?$",
        )

    def read(self, text: str) -> RepoRef | None:
        found = _DOI.fullmatch(doi_in(text, self._resolver)) or re.fullmatch("([0-9]{1,12})", text)
        found = found or _PAGE.fullmatch(path_below(self._address, text) or "")
        return self._ref(found[1]) if found else None

    async def find(self, ref: RepoRef) -> Repo:
        record = await find_record(self._address, _id(ref), self._asker)
        return Repo(self._ref(record), record, self.fetch, files_url(self._address, record))

    def repository(self, ref: RepoRef) -> str:
        return f"10.5281/zenodo.{_id(ref)}" if path_below(self._address, ref.url) else doi_in(ref.url, self._resolver)

    def _ref(self, record: str) -> RepoRef:
        return RepoRef(self.name, f"{self._address}/records/{int(record)}", "")


def _id(ref: RepoRef) -> str:
    return ref.url.rpartition("/")[2]
