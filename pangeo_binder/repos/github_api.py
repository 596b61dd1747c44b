"""GitHub's REST API, of github.com or of a GitHub Enterprise. Runs in the binder.

https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from ..binderhub_metrics import GITHUB_RATE_LIMIT
from .host_api import HostApi
from .hosts import RepositoryPeers

log = logging.getLogger(__name__)

T = TypeVar("T")

_ASKED_AT_MOST = {False: 20, True: 500}
"""How many requests of any link are sent within an hour, without and with a token; gists need the rest of the limit."""


@dataclass(frozen=True, slots=True)
class GitHubApiSettings:
    """How to reach the API."""

    address: str = "https://api.github.com"
    """On GitHub Enterprise `https://<host>/api/v3`."""
    token_file: Path | None = field(default=None, repr=False)
    """A file with the operator's token, read for each request so that it can be replaced; None to ask without one."""


PUBLIC_API = GitHubApiSettings()


class GitHubApi(HostApi[T]):
    """One kind of object of GitHub's API."""

    host = "GitHub"

    def __init__(
        self,
        settings: GitHubApiSettings,
        parse: Callable[[dict[str, object]], T],
        peers: RepositoryPeers | None = None,
    ) -> None:
        super().__init__(settings.address, parse, _ASKED_AT_MOST[settings.token_file is not None], peers)
        self._token_file = settings.token_file

    def headers(self) -> dict[str, str]:
        headers = {"Accept": "application/vnd.github+json"}
        if self._token_file is not None:
            try:
                headers["Authorization"] = f"Bearer {self._token_file.read_text().strip()}"
            except (OSError, ValueError):  # without it, only the rate limit is lower
                log.error("%s cannot be read, so GitHub's API is asked without a token", self._token_file)
        return headers

    def wait_seconds(self, headers: Mapping[str, str]) -> float | None:
        retry, reset = headers.get("Retry-After", ""), headers.get("X-RateLimit-Reset", "")
        if retry.isdecimal():
            return float(retry)
        if headers.get("X-RateLimit-Remaining") == "0" and reset.isdecimal():
            return float(reset) - time.time()
        return None

    def note(self, headers: Mapping[str, str]) -> None:
        if (left := headers.get("X-RateLimit-Remaining", "")).isdecimal():
            GITHUB_RATE_LIMIT.set(float(left[:9]))
