"""GitLab projects: `/v2/gl/<quoted group/project>/<ref>`, with groups in groups. Runs in the binder.

Refs are resolved by git as for any other address. A self-hosted GitLab is another address of the same kind.
Form: https://binderhub.readthedocs.io/en/latest/reference/repoproviders.html
"""

from __future__ import annotations

import re
from urllib.parse import unquote

from ..addresses import PUBLIC, AddressRules
from ..errors import BadLink
from ..git import GitAccess
from ..hosts import HOSTS
from ..model import Repo, RepoRef
from .base import ProviderForm
from .git import GitRefs
from .hosted import HostedAt
from .hosts import RepositoryPeers

# https://docs.gitlab.com/user/reserved_names/: letters, digits, `_`, `-` and `.`, up to 255 characters and 20 groups
_SEGMENT = r"[A-Za-z0-9_][\w.-]{0,254}(?<!\.)"
_PROJECT = re.compile(rf"{_SEGMENT}(?:/{_SEGMENT}){{1,20}}", re.ASCII)
_TYPED = r"[\w.-]+(?:/(?!-/)[\w.-]+?)+"


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
    ) -> None:
        super().__init__(GitAccess(timeout_seconds=timeout_seconds, addresses=addresses.trusting(address)), peers)
        self._host = HostedAt(address)
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

    def browser_url(self, repo: Repo) -> str:
        return f"{repo.ref.url}/tree/{repo.revision}"

    def repository(self, ref: RepoRef) -> str:
        return self._host.path(ref.url)
