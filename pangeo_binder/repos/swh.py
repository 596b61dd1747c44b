"""Software Heritage: `/v2/swh/swh:1:dir:<id>`, also revisions, releases and snapshots. Runs in the binder.

Qualifiers (`;origin=…`) say where files were found, and change nothing in what is launched.
"""

from __future__ import annotations

import re

from ..archives.swh import SWHID, files_url, find_directory
from ..errors import BadLink
from ..model import FetchKind, Repo, RepoRef
from .base import Provenance, Provider, ProviderForm
from .hosted import HostedAt
from .hosts import RepositoryPeers
from .records import unquoted

PUBLIC_SWH = "https://archive.softwareheritage.org"

_TYPED = r"swh:1:(?:dir|rev|rel|snp):[0-9a-f]{40}"
_LOGIN = re.compile(r"://[^/;]*@")


class SwhProvider(Provider):
    """Provider of directories that Software Heritage has archived."""

    name = "swh"
    display_name = "Software Heritage"
    fetch = FetchKind.ARCHIVE
    link_hint = "Links look like /v2/swh/swh:1:dir:0123456789abcdef0123456789abcdef01234567."

    def __init__(self, address: str = PUBLIC_SWH, peers: RepositoryPeers | None = None) -> None:
        """`address` is that of the archive's pages; its API is below it. Raises ValueError for an invalid one."""
        self._host = HostedAt(address)
        self._asker = (peers or RepositoryPeers()).ask
        self._api = self._host.url("api/1/")
        host = address.partition("://")[2].rstrip("/").replace(".", r"\.")
        self.form = ProviderForm(
            label="Software Heritage identifier (SWHID)",
            placeholder="swh:1:dir:0123456789abcdef0123456789abcdef01234567",
            default_ref="",
            url_encode=False,
            detect=rf"^(?:https?://{host}/)?(?<repo>{_TYPED})(?:;.*)?/?$",
            pattern=rf"^(?:https?://{host}/)?{_TYPED}(?:;.*)?/?$",
        )

    def parse(self, spec: str) -> RepoRef:
        core, _, qualifiers = unquoted(spec).partition(";")
        core = core.strip("/")
        if _LOGIN.search(qualifiers):
            raise BadLink("The link contains a user name or password.", "Remove it: links are public.")
        if SWHID.fullmatch(core) is None:
            raise BadLink("The link does not name a directory or revision of Software Heritage.", self.link_hint)
        return RepoRef(self.name, self._host.url(core), "")

    async def find_revision(self, ref: RepoRef) -> str:
        return await find_directory(self._api, self._host.path(ref.url), self._asker)

    async def resolve(self, ref: RepoRef) -> Repo:
        directory = await self.find_revision(ref)
        return Repo(ref, directory, self.fetch, files_url(self._api, directory))

    def repository(self, ref: RepoRef) -> str:
        return self._host.path(ref.url)

    def known_provenance(self, repo: Repo) -> Provenance | None:
        """Return that the revision is its own: an identifier is the hash of what it names."""
        return Provenance()

    async def find_provenance(self, repo: Repo) -> Provenance:
        return Provenance()
