"""Collision-free names of launches, users and environments. Pure.

Every name in a process, a path, a URL or Kubernetes is generated here. Not for parsing links (see `repos`).
"""

from __future__ import annotations

import hashlib
import re
import secrets
import string

LAUNCH_ID_LENGTH = 12
"""All launch ids have this length, so that no storage prefix begins with another one."""

_ALPHABET = string.ascii_lowercase + string.digits
LAUNCH_ID = rf"^[a-z][a-z0-9]{{{LAUNCH_ID_LENGTH - 1}}}$"
"""The form of a launch id."""
_LAUNCH_ID = re.compile(LAUNCH_ID.strip("^$"))
_SLUG_LENGTH = 32


def new_launch_id() -> str:
    """Return a random launch id: a letter, then letters and digits; 61 bits, so collisions are negligible."""
    head = secrets.choice(string.ascii_lowercase)
    return head + "".join(secrets.choice(_ALPHABET) for _ in range(LAUNCH_ID_LENGTH - 1))


def is_launch_id(text: str) -> bool:
    """Return whether `text` has the form of a launch id."""
    return _LAUNCH_ID.fullmatch(text) is not None


def slug(text: str) -> str:
    """Return `text` as lower-case words joined by dashes, at most 32 characters, never empty, not unique."""
    words = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    return words[:_SLUG_LENGTH].strip("-") or "repo"


_ANONYMOUS = "anonymous-"
_SERVER = re.compile(rf"[a-z0-9](?:[a-z0-9-]{{0,{_SLUG_LENGTH - 2}}}[a-z0-9])?-{_LAUNCH_ID.pattern}")
_ANONYMOUS_USER = re.compile(rf"{_ANONYMOUS}{_SERVER.pattern}")


def user_name(repo_name: str, launch_id: str) -> str:
    """Return the hub user name of an anonymous launch: readable, and unique because the launch id is."""
    return f"{_ANONYMOUS}{server_name(repo_name, launch_id)}"


def is_anonymous_user(user: str) -> bool:
    """Return whether the hub's user `user` was made for one anonymous launch, and is deleted after it.

    The hub refuses logins whose names have this form, so no person's account is ever deleted.
    """
    return _ANONYMOUS_USER.fullmatch(user) is not None


def server_name(repo_name: str, launch_id: str) -> str:
    """Return the name of a person's server: readable, unique as the launch id, and a DNS label for its host."""
    return f"{slug(repo_name)}-{launch_id}"


def is_server_name(text: str) -> bool:
    """Return whether `text` has the form of a person's server's name."""
    return _SERVER.fullmatch(text) is not None


def environment_id(*parts: str) -> str:
    """Return the id of the environment determined by `parts` (repository, commit, builder version …)."""
    joined = "\0".join(parts).encode()
    return hashlib.sha256(joined).hexdigest()[:20]


LABEL = "pangeo-binder"
"""The prefix of all our Kubernetes labels and annotations; a plain DNS label, so that no domain is claimed."""

LAUNCH_LABEL = f"{LABEL}/launch"
"""The launch id, on every Kubernetes object of a launch. The reaper selects objects by it."""
TIER_LABEL = f"{LABEL}/tier"
BUILD_LABEL = f"{LABEL}/build"
MANAGED_LABELS = {"app.kubernetes.io/managed-by": LABEL}


def launch_namespace(prefix: str, launch_id: str) -> str:
    """Return the name of a launch's own namespace."""
    return f"{prefix}-{launch_id}"
