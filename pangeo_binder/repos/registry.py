"""Finds the provider a link names among those this binder has. Runs in the binder."""

from __future__ import annotations

from collections.abc import Iterable

from ..errors import BadLink
from .base import Provider


def provider_for(providers: Iterable[Provider], name: str) -> Provider:
    """Return the provider called `name`. Raises BadLink naming those there are."""
    known = {provider.name: provider for provider in providers}
    if name in known:
        return known[name]
    raise BadLink("This service does not know the link's kind of repository.", f"It knows: {', '.join(known)}.")
