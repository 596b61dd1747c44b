"""The address of one host of repositories, and its part in links and forms. Pure; used by the drivers of such kinds."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class HostedAt:
    """A host whose repositories are paths below one address. Raises ValueError for an address that is not http(s)."""

    address: str
    """Such as `https://github.com`."""

    def __post_init__(self) -> None:
        parts = urlsplit(self.address)
        if (
            parts.scheme not in ("http", "https")
            or not parts.hostname
            or parts.username
            or parts.query
            or parts.fragment
        ):
            raise ValueError("The address of a repository host has the form https://host, without a user name.")

    def url(self, path: str) -> str:
        """Return the URL of the repository at `path`."""
        return f"{self.address.rstrip('/')}/{path}"

    def path(self, url: str) -> str:
        """Return the path of the repository at `url`."""
        return url.removeprefix(f"{self.address.rstrip('/')}/")

    def typed(self, path: str, group: str = "?:") -> str:
        """Return a JavaScript regular expression for a repository typed as its path, URL or ssh address.

        `path` is a regular expression for the path, in the group that `group` opens, such as `?<repo>`.
        """
        parts = urlsplit(self.address)
        host, name = (_literal(text) for text in (parts.netloc + parts.path.rstrip("/"), parts.hostname or ""))
        return rf"^(?:(?:https?://)?(?:www\.)?{host}/|(?:ssh://)?git@{name}[:/])?({group}{path})(?:\.git)?/?$"


def _literal(text: str) -> str:
    return text.replace(".", r"\.")
