"""GitHub repositories: `/v2/gh/<org>/<repository>/<ref>`, the form of most badges. Runs in the binder.

Refs are resolved by git as for any other address, so no API token is needed and no rate limit applies. GitHub
Enterprise is another address of the same kind.
Form: https://binderhub.readthedocs.io/en/latest/reference/repoproviders.html
"""

from __future__ import annotations

import re
from urllib.parse import unquote

from ..errors import BadLink
from ..git import GitAccess
from ..hosts import HOSTS
from ..model import Repo, RepoRef
from .base import ProviderForm
from .git import GitRefs
from .hosted import HostedAt

# https://docs.github.com/en/enterprise-cloud@latest/admin/managing-iam/iam-configuration-reference/username-considerations-for-external-authentication
OWNER = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,98}[A-Za-z0-9_])?", re.ASCII)
_REPOSITORY = re.compile(r"(?!\.{1,2}$)[\w.-]{1,100}", re.ASCII)
_TYPED = r"[\w-]+/[\w.-]+?"


class GitHubProvider(GitRefs):
    """Provider of the repositories of one GitHub host."""

    name = "gh"
    display_name = "GitHub"
    link_hint = "Links look like /v2/gh/org/repository/main."

    def __init__(self, address: str = HOSTS["gh"].url, timeout_seconds: float = 30) -> None:
        super().__init__(GitAccess(timeout_seconds=timeout_seconds))
        self._host = HostedAt(address)
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

    def browser_url(self, repo: Repo) -> str:
        return f"{repo.ref.url}/tree/{repo.revision}"

    def repository(self, ref: RepoRef) -> str:
        return self._host.path(ref.url)
