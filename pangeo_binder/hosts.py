"""The public hosts that links name by a short prefix (`gh`, `gl`, `zenodo`), and their aliases. Pure.

Links, the command line and the policy share this table, so a rule and a link always mean the same repository.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Host:
    """A public host of repositories."""

    name: str
    aliases: tuple[str, ...] = ()
    """Other hosts that serve the same repositories, with the port if it is not the scheme's default."""

    @property
    def url(self) -> str:
        """The host's address, without a trailing slash."""
        return f"https://{self.name}"


HOSTS = {
    # https://docs.github.com/en/authentication/troubleshooting-ssh/using-ssh-over-the-https-port
    "gh": Host("github.com", ("www.github.com", "ssh.github.com:443")),
    "gist": Host("gist.github.com"),
    # https://docs.gitlab.com/user/gitlab_com/#alternative-ssh-port
    "gl": Host("gitlab.com", ("www.gitlab.com", "altssh.gitlab.com:443")),
}
"""Hosts by their prefix in links."""

ARCHIVES = {
    "figshare": "https://figshare.com/articles/_",
    "hydroshare": "https://www.hydroshare.org/resource",
    "swh": "https://archive.softwareheritage.org",
    "zenodo": "https://zenodo.org/records",
}
"""The addresses of public archives below which their records are, by the prefix in links and rules."""

CANONICAL = {alias: host.name for host in HOSTS.values() for alias in host.aliases} | {
    "hydroshare.org": "www.hydroshare.org",
    "www.figshare.com": "figshare.com",
    "www.zenodo.org": "zenodo.org",
}
"""The canonical name of each alias, which the policy uses."""
