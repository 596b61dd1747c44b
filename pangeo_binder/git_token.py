"""The operator's token for one private repository, as git gets it: for one URL, in the environment of one git.

Not in the command line, the URL or a file of the checkout. Which repositories have a token is for `repos.private`. Used
by the binder and in build pods.
"""

from __future__ import annotations

import base64
import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

_BYTES = 4096
_USER = "x-access-token"
"""The user name that GitHub documents for all of its tokens; GitLab takes any name with a personal or group token."""
_TOKEN = re.compile(r"[\x21-\x7e]{1,2048}")

TokenFiles = Callable[[str], Path | None]
"""Returns the file with the token for the repository at a URL; None for a repository that is read without one."""


def no_token(url: str) -> None:
    """Return None: the repository is read without a token."""


class TokenInvalid(Exception):
    """The file does not hold a token."""


@dataclass(frozen=True, slots=True)
class GitToken:
    """A token for the repository at one URL."""

    url: str
    basic: str = field(repr=False)
    """The credentials of HTTP's Basic authentication (RFC 7617)."""

    def env(self) -> dict[str, str]:
        """Return the variables by which git sends the token to this URL; see git-config(1), `http.<url>.*`."""
        return {
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": f"http.{self.url}.extraHeader",
            "GIT_CONFIG_VALUE_0": f"Authorization: Basic {self.basic}",
        }


def read_token(url: str, file: Path) -> GitToken:
    """Return the token in `file`, a token or `user:token`, for the repository at `url`. Raises TokenInvalid."""
    try:
        with file.open("rb") as opened:
            text = opened.read(_BYTES).decode().strip()
    except (OSError, ValueError):
        raise TokenInvalid from None
    if not _TOKEN.fullmatch(text):
        raise TokenInvalid
    login = text if ":" in text else f"{_USER}:{text}"
    return GitToken(url, base64.b64encode(login.encode()).decode())


def is_confidential(url: str) -> bool:
    """Return whether nobody on the way to the server of `url` can read what is sent: by https, or on this machine."""
    parts = urlsplit(url)
    if parts.scheme == "https":
        return True
    try:
        return parts.scheme == "http" and ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return False
