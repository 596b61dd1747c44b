"""GitHub repositories: `/v2/gh/<org>/<repository>/<ref>`, the form of most badges. Runs in the binder.

Refs are resolved by git as for any other address, so no API token is needed and no rate limit applies. GitHub's API is
asked only whether a branch that does not exist was renamed, and which commit a short commit id means. GitHub Enterprise
is another address of the same kind.
Form: https://binderhub.readthedocs.io/en/latest/reference/repoproviders.html
"""

from __future__ import annotations

import re
from dataclasses import replace
from urllib.parse import quote, unquote

from ..addresses import PUBLIC, AddressRules
from ..errors import BadLink, HostBusy, HostUnavailable, RefNotFound
from ..git import GitAccess
from ..git_token import TokenFiles, no_token
from ..hosts import HOSTS
from ..model import Repo, RepoRef
from .base import ProviderForm
from .git import GitRefs
from .github_api import GitHubApi, GitHubApiSettings
from .host_api import read_commit
from .hosted import HostedAt
from .hosts import RepositoryPeers

# https://docs.github.com/en/enterprise-cloud@latest/admin/managing-iam/iam-configuration-reference/username-considerations-for-external-authentication
OWNER = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,98}[A-Za-z0-9_])?", re.ASCII)
_REPOSITORY = re.compile(r"(?!\.{1,2}$)[\w.-]{1,100}", re.ASCII)
_TYPED = r"[\w-]+/[\w.-]+?"


class GitHubProvider(GitRefs):
    """Provider of the repositories of one GitHub host."""

    name = "gh"
    display_name = "GitHub"
    link_hint = "Links look like /v2/gh/org/repository/main."

    def __init__(
        self,
        address: str = HOSTS["gh"].url,
        addresses: AddressRules = PUBLIC,
        api: GitHubApiSettings | None = None,
        timeout_seconds: float = 30,
        peers: RepositoryPeers | None = None,
        token_files: TokenFiles = no_token,
    ) -> None:
        rules = addresses.trusting(address)
        super().__init__(GitAccess(False, timeout_seconds, rules, token_files), peers)
        self._host = HostedAt(address)
        self._api = GitHubApi(api, lambda body: read_commit(body, "sha"), self._peers) if api else None
        self.form = ProviderForm(
            label="GitHub repository",
            placeholder="org/repository",
            url_encode=False,
            detect=self._host.typed(_TYPED, "?<repo>"),
            pattern=self._host.typed(_TYPED),
            spec=r"[^/]+/[^/]+/.+",
        )

    def parse(self, spec: str) -> RepoRef:
        owner, repository, quoted_ref = (*spec.split("/", 2), "", "")[:3]
        owner, repository = unquote(owner), unquote(repository).removesuffix(".git")
        if not OWNER.fullmatch(owner) or not _REPOSITORY.fullmatch(repository):
            raise BadLink("The link does not name a GitHub repository.", self.link_hint)
        return RepoRef(self.name, self._host.url(f"{owner}/{repository}"), self.read_ref(quoted_ref))

    async def resolve(self, ref: RepoRef) -> Repo:
        """Return the repository at the current revision of `ref`, or of the branch to which it was renamed."""
        try:
            return await super().resolve(ref)
        except RefNotFound:
            renamed = await self._renamed(ref)
            if not renamed:
                raise
        return await super().resolve(replace(ref, ref=renamed))

    async def find_commit(self, ref: RepoRef) -> str:
        """https://docs.github.com/en/rest/commits/commits#get-a-commit, which also knows commits of forks."""
        if self._api is None:
            return await super().find_commit(ref)
        return await self._api.find(f"repos/{self.repository(ref)}/commits/{ref.ref}") or ""

    async def _renamed(self, ref: RepoRef) -> str:
        """Return the new name of the branch `ref`; empty if GitHub does not say that it was renamed.

        https://docs.github.com/en/rest/branches/branches#get-a-branch answers 301 for a renamed one.
        """
        branch = ref.ref.removeprefix("refs/heads/")
        if self._api is None or branch == "HEAD" or branch.startswith("refs/"):
            return ""
        path = f"repos/{self.repository(ref)}/branches/{quote(branch, safe='')}"
        try:
            quoted = (await self._api.location(path)).partition("/branches/")[2]
            renamed = self.read_ref(quoted) if quoted else ""
        except (HostBusy, HostUnavailable, BadLink):
            return ""
        return renamed if renamed not in ("HEAD", branch) else ""

    def browser_url(self, repo: Repo) -> str:
        return f"{repo.ref.url}/tree/{repo.revision}"

    def repository(self, ref: RepoRef) -> str:
        return self._host.path(ref.url)
