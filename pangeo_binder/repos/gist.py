"""GitHub gists: `/v2/gist/<user>/<id>[/<ref>]`. Runs in the binder.

GitHub's API says who owns a gist, which its git server does not check, and whether it is secret.
Form: https://binderhub.readthedocs.io/en/latest/reference/repoproviders.html
https://docs.github.com/en/rest/gists/gists#get-a-gist
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote

from ..addresses import PUBLIC, AddressRules
from ..errors import BadLink, RepoNotFound
from ..git import GitAccess
from ..hosts import HOSTS
from ..model import Repo, RepoRef
from .base import ProviderForm
from .git import GitRefs
from .github import OWNER
from .github_api import PUBLIC_API, GitHubApi, GitHubApiSettings
from .hosted import HostedAt
from .hosts import RepositoryPeers

_ID = re.compile(r"[0-9a-f]{1,64}|[0-9]{1,20}")
_REVISION = re.compile(r"[0-9a-f]{4,40}")
_TYPED = r"[\w-]+/[0-9a-f]+"


@dataclass(frozen=True, slots=True)
class _Gist:
    owner: str
    public: bool
    revisions: tuple[str, ...]
    """Full commit ids, newest first; GitHub lists at most 30."""


def _parse(body: dict[str, object]) -> _Gist:
    owner, history = body["owner"], body["history"]
    if not isinstance(owner, dict) or not isinstance(history, list):
        raise TypeError("a gist without owner or history")
    return _Gist(str(owner["login"]), body["public"] is True, tuple(str(each["version"]) for each in history))


class GistProvider(GitRefs):
    """Provider of gists."""

    name = "gist"
    display_name = "Gist"
    link_hint = "Links look like /v2/gist/user/0123456789abcdef."

    def __init__(
        self,
        address: str = HOSTS["gist"].url,
        api: GitHubApiSettings = PUBLIC_API,
        allow_secret: bool = False,
        addresses: AddressRules = PUBLIC,
        timeout_seconds: float = 30,
        peers: RepositoryPeers | None = None,
    ) -> None:
        super().__init__(GitAccess(timeout_seconds=timeout_seconds, addresses=addresses.trusting(address)), peers)
        self._host = HostedAt(address)
        self._api = GitHubApi(api, _parse, self._peers)
        self._allow_secret = allow_secret
        self.form = ProviderForm(
            label="Gist",
            placeholder="user/0123456789abcdef",
            url_encode=False,
            detect=self._host.typed(_TYPED, "?<repo>"),
            pattern=self._host.typed(_TYPED),
            spec=r"[^/]+/[^/]+(/[^/]+)?",
        )

    def parse(self, spec: str) -> RepoRef:
        user, id_, quoted_ref = (*spec.split("/", 2), "", "")[:3]
        user, id_ = unquote(user), unquote(id_).removesuffix(".git")
        if not OWNER.fullmatch(user) or not _ID.fullmatch(id_):
            raise BadLink("The link does not name a gist.", self.link_hint)
        return RepoRef(self.name, self._host.url(f"{user}/{id_}"), self.read_ref(quoted_ref))

    def browser_url(self, repo: Repo) -> str:
        return f"{repo.ref.url}/{repo.revision}"

    def repository(self, ref: RepoRef) -> str:
        return self._host.path(ref.url)

    async def find_revision(self, ref: RepoRef) -> str:
        user, id_ = self.repository(ref).split("/")
        gist = await self._api.get(f"gists/{id_}")
        if gist is None or gist.owner.casefold() != user.casefold():
            raise RepoNotFound(f"{user} has no gist {id_}.", "Check the link.")
        if not gist.public and not self._allow_secret:
            raise RepoNotFound("This gist is secret, and this binder launches public gists only.", "Make it public.")
        if ref.ref == "HEAD" and gist.revisions:
            return gist.revisions[0]
        found = [revision for revision in gist.revisions if revision.startswith(ref.ref.lower())]
        if _REVISION.fullmatch(ref.ref.lower()) and len(found) == 1:
            return found[0]
        return await super().find_revision(ref)
