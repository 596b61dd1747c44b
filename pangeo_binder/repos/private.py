"""Which repositories the operator shares although they are private: git reads them with a token of the operator.

Everyone whom the policy lets launch such a repository can read it, so there is none unless the operator names it. A
token is for the repository that a link names: not for a redirect's target, submodules, LFS files or previews. Runs in
the binder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..git_token import is_confidential
from ..policy.address import Pattern, address_of, pattern_of


@dataclass(frozen=True, slots=True)
class PrivateRepositories:
    """Patterns of repositories with the files of their tokens; the first pattern that matches counts."""

    files: tuple[tuple[Pattern, Path], ...] = ()

    def token_file(self, url: str) -> Path | None:
        """Return the file with the token for the repository at `url`; None if it is read without one."""
        if not self.files or not is_confidential(url):
            return None
        address = address_of(url)
        return next((file for pattern, file in self.files if pattern.lets_in(address)), None)


NONE_SHARED = PrivateRepositories()


def share_private(files: Mapping[str, str]) -> PrivateRepositories:
    """Return the private repositories of the operator's setting, pattern → file of the token.

    A pattern is that of a policy's rule. Raises ValueError with a sentence for one that names no owner on its host.
    """
    return PrivateRepositories(tuple((_pattern(text), Path(file)) for text, file in files.items()))


def _pattern(text: str) -> Pattern:
    pattern = pattern_of(text)
    if not text.startswith(("gh/", "gl/", "git/")) or pattern.is_any_host or pattern.address is None:
        raise ValueError(f"`{text}` names no git host; write `gh/org/*`, `gl/group/*` or `git/https://host/path/*`.")
    url = text.removeprefix("git/")
    if "://" in url and not is_confidential(url):
        raise ValueError(f"`{text}` is not an https address, and git sends a token by no other.")
    if "*" in pattern.address.host or pattern.is_any_path or pattern.is_anybodys or not pattern.address.host:
        raise ValueError(f"`{text}` does not name the owner of the repositories; write for example `gh/org/*`.")
    return pattern
