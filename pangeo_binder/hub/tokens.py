"""Recognizes the tokens of services without a query of the database for each request.

A binder sends several requests for each launch, and JupyterHub's query for their token takes longer than what they ask
for. A token that JupyterHub has accepted is remembered with its record. A record that was deleted is in the database's
session no longer, and then JupyterHub is asked again. Scopes are looked up for each request all the same. Runs in the
hub. Not for tokens of users and servers, nor for tokens that expire.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from functools import cached_property
from typing import Any, ClassVar

from jupyterhub.apihandlers.base import APIHandler
from jupyterhub.orm import APIToken

_REMEMBERED = 8


class ServiceHandler(APIHandler):
    """Handler of requests that services send."""

    _known: ClassVar[OrderedDict[bytes, APIToken]] = OrderedDict()
    """The records by the hash of their token."""

    def get_token(self) -> Any:
        """Return the record of the request's token, or None."""
        return self._record

    @cached_property
    def _record(self) -> Any:
        key = hashlib.sha256((self.get_auth_token() or "").encode()).digest()
        known = self._known.get(key)
        if known is not None and known in self.db:
            return known
        self._known.pop(key, None)
        found = super().get_token()
        if found is not None and found.service is not None and found.expires_at is None:
            self._known[key] = found
            while len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        return found
