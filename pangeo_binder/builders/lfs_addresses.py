"""Which LFS server a repository may name: its own. Runs in the binder and in build pods."""

from __future__ import annotations

from ..public_hosts import AddressRefused, place, web_parts


def lfs_server(repository: str, named: str) -> str:
    """Return the address of the LFS server of the repository at the URL `repository`; `.lfsconfig` names `named` or ''.

    Rules: https://github.com/git-lfs/git-lfs/blob/main/docs/api/server-discovery.md. Raises AddressRefused.
    """
    own = web_parts(repository)
    if not own:
        raise AddressRefused("the repository's address is neither http nor https")
    if not named:
        path = repository.rstrip("/")
        return f"{path}/info/lfs" if path.endswith(".git") else f"{path}.git/info/lfs"
    other = web_parts(named)
    if not other or other.scheme != own.scheme or place(other) != place(own) or other.username is not None:
        raise AddressRefused("the repository's .lfsconfig names another server than the repository's")
    return named.rstrip("/")
