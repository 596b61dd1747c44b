"""Figshare: `/v2/figshare/10.6084/m9.figshare.<id>.v<version>`, also an article's address. Runs in the binder.

A link without a version leads to the newest one. Institutions have figshare at addresses below figshare.com.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from ..archives.figshare import files_url, find_version
from ..model import Repo, RepoRef
from .base import ProviderForm
from .hosted import HostedAt
from .hosts import RepositoryPeers
from .records import DOI_START, PUBLIC_RESOLVER, RecordProvider, doi_in, path_below

PUBLIC_FIGSHARE = "https://figshare.com"
PUBLIC_FIGSHARE_API = "https://api.figshare.com/v2"

_DOI = re.compile(r"10\.[0-9]{4,9}/m9\.figshare\.([0-9]{1,12})(?:\.v([1-9][0-9]{0,5}))?", re.IGNORECASE)
# the type is known, or what follows it is a title: a title of digits after another word is the article's id
_TYPE = r"(?:code|dataset|figure|software)/|[a-z_]+/(?=[0-9]*[^0-9/?])"
_PAGE = re.compile(rf"(?:account/)?articles/(?:{_TYPE})?[^/?]+/([0-9]{{1,12}})(?:/([1-9][0-9]{{0,5}}))?(?:[/?].*)?")


class FigshareProvider(RecordProvider):
    """Provider of articles of figshare."""

    name = "figshare"
    display_name = "Figshare"
    link_hint = "Links look like /v2/figshare/10.6084/m9.figshare.9782777.v1."

    def __init__(
        self,
        address: str = PUBLIC_FIGSHARE,
        api: str = PUBLIC_FIGSHARE_API,
        resolver: str = PUBLIC_RESOLVER,
        peers: RepositoryPeers | None = None,
    ) -> None:
        """`address` is that of the archive's pages. Raises ValueError for an invalid one."""
        super().__init__(resolver, peers)
        self._address, self._api = (HostedAt(each).url("").rstrip("/") for each in (address, api))
        host = self._address.partition("://")[2].replace(".", r"\.").replace("/", r"\/")
        page = rf"(?:https?:\/\/)?(?:[a-z0-9\-]+\.)*{host}\/(?:account\/)?articles\/\S+"
        self.form = ProviderForm(
            label="Figshare DOI, or address of an article",
            placeholder="10.6084/m9.figshare.9782777.v1",
            default_ref="",
            url_encode=False,
            detect=rf"^(?:{DOI_START}(?<repo>10\.[0-9]{{4,9}}\/m9\.figshare\.[0-9]+(?:\.v[0-9]+)?)|{page})$",
            pattern=rf"^(?:{DOI_START}10\.[0-9]{{4,9}}\/m9\.figshare\.\S+|{page})$",
        )

    def read(self, text: str) -> RepoRef | None:
        if not (found := _DOI.fullmatch(doi_in(text, self._resolver))):
            found = _PAGE.fullmatch(path_below(self._address, self._main_host(text)) or "")
        return RepoRef(self.name, self._url(found[1]), found[2] or "") if found else None

    async def find(self, ref: RepoRef) -> Repo:
        article = _id(ref)
        version = await find_version(self._api, article, ref.ref, self._asker)
        return Repo(ref, f"{article}.v{version}", self.fetch, files_url(self._api, article, version))

    def repository(self, ref: RepoRef) -> str:
        if path_below(self._address, ref.url) is None:
            return doi_in(ref.url, self._resolver)
        version = ref.ref.rpartition("v")[2]
        return f"10.6084/m9.figshare.{_id(ref)}" + (f".v{version}" if version else "")

    def browser_url(self, repo: Repo) -> str:
        return f"{repo.ref.url}/{repo.revision.rpartition('v')[2]}"

    def _url(self, article: str) -> str:
        # figshare's pages accept any text for type and title
        return f"{self._address}/articles/_/{int(article)}"

    def _main_host(self, text: str) -> str:
        """Return the address of an institution's page with the host of all of them."""
        try:
            host, own = urlsplit(text).netloc.lower(), urlsplit(self._address).netloc.lower()
        except ValueError:
            return text
        # browsers read what follows a backslash as a path
        return text.replace(host, own, 1) if re.fullmatch(rf"(?:[a-z0-9-]+\.)+{re.escape(own)}", host) else text


def _id(ref: RepoRef) -> str:
    return ref.url.rpartition("/")[2]
