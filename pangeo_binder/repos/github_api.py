"""Asks GitHub's REST API with limits of time, size and rate. Reads only. Runs in the binder.

Answers are cached with their ETag. When GitHub says that the rate limit is used up, nothing is asked until it ends.
https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Generic, TypeVar

import aiohttp

from ..answers import read_object
from ..binderhub_metrics import GITHUB_RATE_LIMIT
from ..errors import HostBusy, HostUnavailable

log = logging.getLogger(__name__)

T = TypeVar("T")

_TIMEOUT = aiohttp.ClientTimeout(total=15)
_ANSWER_BYTES = 1 << 20
"""GitHub includes up to 300 files of a gist with their first megabyte; more than this is not read."""
_CACHED = 1_000
_FRESH_SECONDS = 30
_LIMITED = (HTTPStatus.FORBIDDEN, HTTPStatus.TOO_MANY_REQUESTS)
_MOVED = (HTTPStatus.MOVED_PERMANENTLY, HTTPStatus.FOUND, HTTPStatus.TEMPORARY_REDIRECT, HTTPStatus.PERMANENT_REDIRECT)
_WAIT_SECONDS = 60
"""How long to wait where GitHub says that it is a limit but not until when, which is its own advice."""
_LONGEST_WAIT_SECONDS = 3600


@dataclass(frozen=True, slots=True)
class GitHubApiSettings:
    """How to reach the API."""

    address: str = "https://api.github.com"
    """On GitHub Enterprise `https://<host>/api/v3`."""
    token_file: Path | None = field(default=None, repr=False)
    """A file with the operator's token, read for each request so that it can be replaced; None to ask without one."""


@dataclass(frozen=True, slots=True)
class _Cached(Generic[T]):
    etag: str
    value: T
    until: float


PUBLIC_API = GitHubApiSettings()


_REDIRECTS = 2
"""A renamed branch of a renamed repository."""
_ASKED_SECONDS = 3600
_ASKED_AT_MOST = {False: 20, True: 500}
"""How many redirects are asked for within that time, without and with a token; gists need the rest of the limit."""


class GitHubApi(Generic[T]):
    """One kind of object of GitHub's API, as long as the binder lives.

    `parse` returns the small part of an answer that is needed and cached. It raises KeyError, TypeError or ValueError
    for an answer that is not as documented.
    """

    def __init__(self, settings: GitHubApiSettings, parse: Callable[[dict[str, object]], T]) -> None:
        self._settings = settings
        self._parse = parse
        self._cache: OrderedDict[str, _Cached[T]] = OrderedDict()
        self._limited_until = 0.0
        self._locations: OrderedDict[str, tuple[str, float]] = OrderedDict()
        self._asked = deque[float]()

    async def get(self, path: str) -> T | None:
        """Return the object at `path`, or None if there is none. Raises HostBusy or HostUnavailable."""
        cached = self._cache.get(path)
        if cached and cached.until > time.monotonic():
            return cached.value
        async with self._answer(path, cached) as response:
            return await self._read(path, cached, response)

    async def location(self, path: str) -> str:
        """Return the path to which the API redirects `path`; empty if it does not, or has been asked too often.

        The answer is reused for an hour. Raises HostBusy or HostUnavailable.
        """
        now = time.monotonic()
        known, until = self._locations.get(path, ("", 0.0))
        if until > now:
            return known
        while self._asked and self._asked[0] < now - _ASKED_SECONDS:
            self._asked.popleft()
        if len(self._asked) >= _ASKED_AT_MOST[self._settings.token_file is not None]:
            return ""
        self._asked.append(now)
        found = await self._follow(path)
        self._locations[path] = (found, now + _ASKED_SECONDS)
        while len(self._locations) > _CACHED:
            self._locations.popitem(last=False)
        return found

    async def _follow(self, path: str) -> str:
        base, at = f"{self._settings.address.rstrip('/')}/", path
        for _ in range(_REDIRECTS):
            async with self._answer(at, None) as response:
                self._check_limit(response)
                target = response.headers.get("Location", "")
                if response.status not in _MOVED or not target.startswith(base):
                    break
                at = target.removeprefix(base)
        return at if at != path else ""

    @asynccontextmanager
    async def _answer(self, path: str, cached: _Cached[T] | None) -> AsyncGenerator[aiohttp.ClientResponse, None]:
        """Ask the API. Raises HostBusy or HostUnavailable, also for an answer that is not as documented."""
        if (seconds := self._limited_until - time.monotonic()) > 0:
            raise _busy(seconds)
        url = f"{self._settings.address.rstrip('/')}/{path}"
        try:
            # no redirects, because the token is for this host only
            async with (
                aiohttp.ClientSession(timeout=_TIMEOUT) as session,
                session.get(url, headers=self._headers(cached), allow_redirects=False) as response,
            ):
                yield response
        except (aiohttp.ClientError, TimeoutError, KeyError, TypeError, ValueError):
            log.warning("GitHub's API did not answer, or not as documented", exc_info=True)
            raise _unavailable() from None

    def _headers(self, cached: _Cached[T] | None) -> dict[str, str]:
        headers = {"Accept": "application/vnd.github+json", "User-Agent": "pangeo-binder"}
        if self._settings.token_file is not None:
            headers["Authorization"] = f"Bearer {self._settings.token_file.read_text().strip()}"
        return {**headers, "If-None-Match": cached.etag} if cached else headers

    async def _read(self, path: str, cached: _Cached[T] | None, response: aiohttp.ClientResponse) -> T | None:
        if (left := response.headers.get("X-RateLimit-Remaining", "")).isdecimal():
            GITHUB_RATE_LIMIT.set(float(left[:9]))
        if response.status == HTTPStatus.NOT_FOUND:
            return None
        if cached and response.status == HTTPStatus.NOT_MODIFIED:
            return self._keep(path, cached.etag, cached.value)
        self._check_limit(response)
        if response.status != HTTPStatus.OK:
            log.warning("GitHub's API answered with status %d", response.status)
            raise _unavailable()
        value = self._parse(await read_object(response, _ANSWER_BYTES))
        return self._keep(path, response.headers.get("ETag", ""), value)

    def _check_limit(self, response: aiohttp.ClientResponse) -> None:
        """Remember until when the API answers nothing, if the answer says so. Raises HostBusy."""
        if response.status in _LIMITED and (seconds := _wait_seconds(response)):
            self._limited_until = time.monotonic() + seconds
            log.warning("GitHub's API answers nothing for %.0f seconds: its rate limit is used up", seconds)
            raise _busy(seconds)

    def _keep(self, path: str, etag: str, value: T) -> T:
        self._cache[path] = _Cached(etag, value, time.monotonic() + _FRESH_SECONDS)
        self._cache.move_to_end(path)
        while len(self._cache) > _CACHED:
            self._cache.popitem(last=False)
        return value


def _wait_seconds(response: aiohttp.ClientResponse) -> float:
    """Return for how long GitHub limits requests; 0 if it refused for another reason."""
    retry, reset = response.headers.get("Retry-After", ""), response.headers.get("X-RateLimit-Reset", "")
    if retry.isdecimal():
        seconds = float(retry)
    elif response.headers.get("X-RateLimit-Remaining") == "0" and reset.isdecimal():
        seconds = float(reset) - time.time()
    elif response.status == HTTPStatus.TOO_MANY_REQUESTS:
        seconds = _WAIT_SECONDS
    else:
        return 0
    return min(max(seconds, 1), _LONGEST_WAIT_SECONDS)


def _busy(seconds: float) -> HostBusy:
    minutes = max(1, round(seconds / 60))
    return HostBusy(
        "GitHub does not answer more questions of this binder now.",
        f"Try again in {minutes} minute{'s' if minutes > 1 else ''}.",
    )


def _unavailable() -> HostUnavailable:
    return HostUnavailable("GitHub does not answer this binder.", "Try again in a minute.")
