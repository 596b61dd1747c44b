"""CKAN: `/v2/ckan/<quoted address of a dataset>` at any host. Runs in the binder.

CKAN may be below a path; an address may name an activity of the dataset's history. A host must have a public address,
unless the operator named it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import parse_qs, quote

from ..archives.base import OWN_HOST
from ..archives.ckan import files_url, find_version
from ..errors import BadLink
from ..git import GitAccess
from ..model import Repo, RepoRef
from ..public_hosts import web_parts
from .base import ProviderForm
from .git import validate_url
from .hosted import HostedAt
from .hosts import RepositoryPeers
from .records import RecordProvider, path_below, plain_text

_PATH = re.compile(
    r"(?P<prefix>(?:/[\w.~-]+)*?)/dataset/(?P<name>[\w-]{1,100})(?:/history/(?P<at>[\w-]{1,60})|/resource/.*)?/?",
    re.ASCII,
)
_ACTIVITY = re.compile(r"[\w-]{1,60}", re.ASCII)


class CkanProvider(RecordProvider):
    """Provider of datasets of any CKAN site."""

    name = "ckan"
    display_name = "CKAN"
    link_hint = "Links look like /v2/ckan/https%3A%2F%2Fdemo.ckan.org%2Fdataset%2Fmy-dataset."
    form = ProviderForm(
        label="Address of a CKAN dataset",
        placeholder="https://demo.ckan.org/dataset/my-sample-dataset-001",
        default_ref="",
        detect=r"^(?<repo>https?:\/\/\S+\/dataset\/\S+)$",
        pattern=r"^https?:\/\/\S+\/dataset\/\S+$",
    )

    def __init__(self, own: Sequence[str] = (), peers: RepositoryPeers | None = None) -> None:
        """`own` are addresses of sites that may be private. Raises ValueError for an invalid one."""
        super().__init__(peers=peers)
        self._own = tuple(HostedAt(each).url("").rstrip("/") for each in own)

    def parse(self, spec: str) -> RepoRef:
        if found := self.read(plain_text(spec)):
            return found
        raise BadLink("The link does not name a dataset of a CKAN site.", self.link_hint)

    def read(self, text: str) -> RepoRef | None:
        parts = web_parts(text)
        found = _PATH.fullmatch(parts.path) if parts else None
        if not parts or not found or {".", ".."} & set(parts.path.split("/")):
            return None
        activity = found["at"] or parse_qs(parts.query).get("activity_id", [""])[0]
        if activity and not _ACTIVITY.fullmatch(activity):
            return None
        try:  # anybody chooses this host, as that of a git link: the same names and spellings are valid
            url = validate_url(f"{parts.scheme}://{parts.netloc}{found['prefix']}/dataset/{found['name']}", GitAccess())
        except BadLink:
            return None
        return RepoRef(self.name, url, activity)

    async def find(self, ref: RepoRef) -> Repo:
        site, _, dataset = ref.url.rpartition("/dataset/")
        own = any(path_below(address, ref.url) is not None for address in self._own)
        url = files_url(site, dataset, ref.ref)
        version = await find_version(site, dataset, ref.ref, own, self._asker)
        revision = f"{dataset}.v{version}" + (f".{ref.ref}" if ref.ref else "")
        return Repo(ref, revision, self.fetch, url + (OWN_HOST if own else ""))

    def spec(self, ref: RepoRef) -> str:
        return quote(_page(ref.url, ref.ref), safe="")

    def browser_url(self, repo: Repo) -> str:
        return _page(repo.ref.url, repo.ref.ref)


def _page(url: str, ref: str) -> str:
    """Return the address of a dataset's page; `ref` is an activity, or a revision, which has it at its end."""
    activity = "".join(ref.split(".")[2:]) if ".v" in ref else ref
    return f"{url}?activity_id={activity}" if activity else url
