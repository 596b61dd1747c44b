"""GitLab projects: `/v2/gl/<quoted group/project>/<ref>`, with groups in groups. Runs in the binder.

Refs are resolved by git as for any other address; only for a short commit id GitLab's API is asked which one it is. A
self-hosted GitLab is another address of the same kind.
Form: https://binderhub.readthedocs.io/en/latest/reference/repoproviders.html
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import quote, unquote

from ..addresses import PUBLIC, AddressRules
from ..errors import BadLink
from ..git import GitAccess
from ..git_token import TokenFiles, no_token
from ..hosts import HOSTS
from ..model import Repo, RepoRef
from .base import ProviderForm
from .git import GitRefs
from .host_api import HostApi, read_commit
from .hosted import HostedAt
from .hosts import RepositoryPeers

# https://docs.gitlab.com/user/reserved_names/: letters, digits, `_`, `-` and `.`, up to 255 characters and 20 groups
_SEGMENT = r"[A-Za-z0-9_][\w.-]{0,254}(?<!\.)"
_PROJECT = re.compile(rf"{_SEGMENT}(?:/{_SEGMENT}){{1,20}}", re.ASCII)
_TYPED = r"[\w.-]+(?:/(?!-/)[\w.-]+?)+"


_ASKED_AT_MOST = 500
"""How many short commit ids are looked up within an hour; GitLab.com answers as many anonymous requests a minute."""


class GitLabApi(HostApi[str]):
    """The ids of commits in one GitLab's API: https://docs.gitlab.com/api/commits/#retrieve-a-commit."""

    host = "GitLab"

    def __init__(self, address: str, peers: RepositoryPeers | None = None) -> None:
        url = f"{address.rstrip('/')}/api/v4"
        super().__init__(url, lambda body: read_commit(body, "id"), _ASKED_AT_MOST, peers)

    def headers(self) -> dict[str, str]:
        return {"Accept": "application/json"}

    def wait_seconds(self, headers: Mapping[str, str]) -> float | None:
        """https://docs.gitlab.com/administration/settings/user_and_ip_rate_limits/#response-headers"""
        retry = headers.get("Retry-After", "")
        return float(retry) if retry.isdecimal() else None


class GitLabProvider(GitRefs):
    """Provider of the projects of one GitLab host."""

    name = "gl"
    display_name = "GitLab"
    link_hint = "Links look like /v2/gl/group%2Fproject/main, with the project's slashes as %2F."

    def __init__(
        self,
        address: str = HOSTS["gl"].url,
        addresses: AddressRules = PUBLIC,
        timeout_seconds: float = 30,
        peers: RepositoryPeers | None = None,
        token_files: TokenFiles = no_token,
    ) -> None:
        rules = addresses.trusting(address)
        super().__init__(GitAccess(False, timeout_seconds, rules, token_files), peers)
        self._host = HostedAt(address)
        self._api = GitLabApi(address, self._peers)
        self.form = ProviderForm(
            label="GitLab project",
            placeholder="group/project",
            detect=self._host.typed(_TYPED, "?<repo>"),
            pattern=self._host.typed(_TYPED),
        )

    def parse(self, spec: str) -> RepoRef:
        quoted_project, _, quoted_ref = spec.partition("/")
        project = unquote(unquote(quoted_project)).strip("/").removesuffix(".git")  # some badges are quoted twice
        if not _PROJECT.fullmatch(project):
            raise BadLink("The link does not name a GitLab project.", self.link_hint)
        return RepoRef(self.name, self._host.url(project), self.read_ref(quoted_ref))

    async def find_commit(self, ref: RepoRef) -> str:
        project = quote(self.repository(ref), safe="")
        return await self._api.find(f"projects/{project}/repository/commits/{ref.ref}") or ""

    def browser_url(self, repo: Repo) -> str:
        return f"{repo.ref.url}/tree/{repo.revision}"

    def repository(self, ref: RepoRef) -> str:
        return self._host.path(ref.url)
