"""The public hosts that links name by a short kind (`gh`, `gl`), and the other names they answer to. Pure.

One table for links, the command line and the policy, so that a rule and a link always mean the same repository.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Host:
    """A public host of repositories."""

    name: str
    aliases: tuple[str, ...] = ()
    """Other hosts, with a port that is not the scheme's own, under which it serves the same repositories."""

    @property
    def url(self) -> str:
        """Its address, without a slash at the end."""
        return f"https://{self.name}"


HOSTS = {
    # https://docs.github.com/en/authentication/troubleshooting-ssh/using-ssh-over-the-https-port
    "gh": Host("github.com", ("www.github.com", "ssh.github.com:443")),
    # https://docs.gitlab.com/user/gitlab_com/#alternative-ssh-port
    "gl": Host("gitlab.com", ("www.gitlab.com", "altssh.gitlab.com:443")),
}
"""Hosts by the kind that names them in a link."""

CANONICAL = {alias: host.name for host in HOSTS.values() for alias in host.aliases}
"""Aliases, each with the one name that the policy sees."""
