"""Asks the REST API of one host with limits of time, size and rate. Reads only. Runs in the binder.

Answers are cached with their ETag. When a host says that its rate limit is used up, nothing is asked until it ends. A
driver says how requests and limits look at its host.
"""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import ClassVar, Generic, TypeVar

import aiohttp

from ..answers import read_object
from ..errors import HostBusy, HostUnavailable
from .hosts import RepositoryPeers

log = logging.getLogger(__name__)

T = TypeVar("T")

_TIMEOUT = aiohttp.ClientTimeout(total=15)
_ANSWER_BYTES = 1 << 20
"""GitHub includes up to 300 files of a gist or a commit with their first megabyte; more than this is not read."""
_CACHED = 1_000
_FRESH_SECONDS = 30
_LIMITED = (HTTPStatus.FORBIDDEN, HTTPStatus.TOO_MANY_REQUESTS)
_MOVED = (HTTPStatus.MOVED_PERMANENTLY, HTTPStatus.FOUND, HTTPStatus.TEMPORARY_REDIRECT, HTTPStatus.PERMANENT_REDIRECT)
# GitHub answers the latter for a commit id that it does not know, or that several commits begin with:
# https://docs.github.com/en/rest/commits/commits#get-a-commit
_NONE = (HTTPStatus.NOT_FOUND, HTTPStatus.UNPROCESSABLE_ENTITY)
_WAIT_SECONDS = 60
"""How long to wait where a host says that it is a limit but not until when, which is GitHub's own advice."""
_LONGEST_WAIT_SECONDS = 3600
_REDIRECTS = 2
"""A renamed branch of a renamed repository."""
_ASKED_SECONDS = 3600
_ABSENT_SECONDS = 600


@dataclass(frozen=True, slots=True)
class _Cached(Generic[T]):
    etag: str
    value: T
    until: float


class HostApi(ABC, Generic[T]):
    """One kind of object of a host's API, as long as the binder lives.

    A driver implements `headers` and `wait_seconds`.

    `parse` returns the small part of an answer that is needed and cached. It raises KeyError, TypeError or ValueError
    for an answer that is not as documented.
    """

    host: ClassVar[str]
    """The host's name in sentences."""

    def __init__(
        self,
        address: str,
        parse: Callable[[dict[str, object]], T],
        asked_at_most: int,
        peers: RepositoryPeers | None = None,
    ) -> None:
        """`asked_at_most` is how many requests that any link can cause are sent within an hour."""
        self._peers = peers or RepositoryPeers()
        self._base = f"{address.rstrip('/')}/"
        self._parse = parse
        self._cache: OrderedDict[str, _Cached[T]] = OrderedDict()
        self._limited_until = 0.0
        self._locations: OrderedDict[str, tuple[str, float]] = OrderedDict()
        self._absent: OrderedDict[str, float] = OrderedDict()
        """Until when an object counts as absent without another question, on the monotonic clock."""
        self._asked = deque[float]()
        self._asked_at_most = asked_at_most

    @abstractmethod
    def headers(self) -> dict[str, str]:
        """Return the headers of a request."""

    @abstractmethod
    def wait_seconds(self, headers: Mapping[str, str]) -> float | None:
        """Return for how long a refusal with these headers says to wait; None if it says nothing of a limit."""

    def note(self, headers: Mapping[str, str]) -> None:
        """Note what the headers of an answer say of the rate limit."""

    async def get(self, path: str) -> T | None:
        """Return the object at `path`, or None if there is none. Raises HostBusy or HostUnavailable."""
        cached = self._cache.get(path)
        if cached and cached.until > time.monotonic():
            return cached.value
        async with self._answer(path, cached) as response:
            return await self._read(path, cached, response)

    async def find(self, path: str) -> T | None:
        """Return the object at `path` or where the API redirects it, or None if there is none.

        An object is reused for an hour, and that there is none for ten minutes.
        Raises HostUnavailable, and HostBusy also if this has been asked too often.
        """
        cached = self._cache.get(path)
        if cached and cached.until > time.monotonic():
            return cached.value
        if self._absent.get(path, 0.0) > time.monotonic():
            return None
        if not self._may_ask():
            raise self._busy(_ASKED_SECONDS)
        found = await self._find(path, cached)
        if found is None:  # else one broken badge would take all questions
            self._absent[path] = time.monotonic() + _ABSENT_SECONDS
            while len(self._absent) > _CACHED:
                self._absent.popitem(last=False)
        return found

    async def _find(self, path: str, cached: _Cached[T] | None) -> T | None:
        at, etag = path, cached
        for _ in range(_REDIRECTS + 1):
            async with self._answer(at, etag) as response:
                if not (target := self._target(response)):
                    return await self._read(path, etag, response, _ASKED_SECONDS)
                at, etag = target, None
        raise self._unavailable()

    async def location(self, path: str) -> str:
        """Return the path to which the API redirects `path`; empty if it does not, or has been asked too often.

        The answer is reused for an hour. Raises HostBusy or HostUnavailable.
        """
        now = time.monotonic()
        known, until = self._locations.get(path, ("", 0.0))
        if until > now:
            return known
        if not self._may_ask():
            return ""
        found = await self._follow(path)
        self._locations[path] = (found, now + _ASKED_SECONDS)
        while len(self._locations) > _CACHED:
            self._locations.popitem(last=False)
        return found

    def _may_ask(self) -> bool:
        """Return whether a request that any link can cause may be sent, and count it."""
        now = time.monotonic()
        while self._asked and self._asked[0] < now - _ASKED_SECONDS:
            self._asked.popleft()
        if len(self._asked) >= self._asked_at_most:
            return False
        self._asked.append(now)
        return True

    async def _follow(self, path: str) -> str:
        at = path
        for _ in range(_REDIRECTS):
            async with self._answer(at, None) as response:
                self._check_limit(response)
                if not (target := self._target(response)):
                    break
                at = target
        return at if at != path else ""

    def _target(self, response: aiohttp.ClientResponse) -> str:
        """Return the path to which an answer redirects; empty if it does not, or leaves the API."""
        target = response.headers.get("Location", "")
        inside = response.status in _MOVED and target.startswith(self._base)
        return target.removeprefix(self._base) if inside else ""

    @asynccontextmanager
    async def _answer(self, path: str, cached: _Cached[T] | None) -> AsyncGenerator[aiohttp.ClientResponse, None]:
        """Ask the API. Raises HostBusy or HostUnavailable, also for an answer that is not as documented."""
        if (seconds := self._limited_until - time.monotonic()) > 0:
            raise self._busy(seconds)
        try:
            headers = {**self.headers(), "User-Agent": "pangeo-binder"}
            if cached:
                headers["If-None-Match"] = cached.etag
            async with (
                aiohttp.ClientSession(timeout=_TIMEOUT) as session,
                await self._request(session, f"{self._base}{path}", headers) as response,
            ):
                yield response
        except (aiohttp.ClientError, TimeoutError, KeyError, TypeError, ValueError):
            log.warning("The API of %s did not answer, or not as documented", self.host, exc_info=True)
            raise self._unavailable() from None

    async def _request(
        self, session: aiohttp.ClientSession, url: str, headers: dict[str, str]
    ) -> aiohttp.ClientResponse:
        """Return the answer, whatever it is. Raises HostUnavailable, at once if the host has stopped answering."""

        async def request() -> aiohttp.ClientResponse:
            try:
                # no redirects, because a token is for this host only
                return await session.get(url, headers=headers, allow_redirects=False)
            except (aiohttp.ClientError, TimeoutError):
                log.warning("The API of %s did not answer", self.host, exc_info=True)
                raise self._unavailable() from None

        # not repeated, because hosts count requests
        return await self._peers.ask(url, request, repeat=False)

    async def _read(
        self,
        path: str,
        cached: _Cached[T] | None,
        response: aiohttp.ClientResponse,
        fresh_seconds: float = _FRESH_SECONDS,
    ) -> T | None:
        self.note(response.headers)
        if response.status in _NONE:
            return None
        if cached and response.status == HTTPStatus.NOT_MODIFIED:
            return self._keep(path, _Cached(cached.etag, cached.value, time.monotonic() + fresh_seconds))
        self._check_limit(response)
        if response.status != HTTPStatus.OK:
            log.warning("The API of %s answered with status %d", self.host, response.status)
            raise self._unavailable()
        value = self._parse(await read_object(response, _ANSWER_BYTES))
        etag = response.headers.get("ETag", "")
        return self._keep(path, _Cached(etag, value, time.monotonic() + fresh_seconds))

    def _check_limit(self, response: aiohttp.ClientResponse) -> None:
        """Remember until when the API answers nothing, if the answer says so. Raises HostBusy."""
        if response.status not in _LIMITED:
            return
        seconds = self.wait_seconds(response.headers)
        if seconds is None and response.status == HTTPStatus.TOO_MANY_REQUESTS:
            seconds = _WAIT_SECONDS
        if seconds is None:
            return  # it refused for another reason
        seconds = min(max(seconds, 1), _LONGEST_WAIT_SECONDS)
        self._limited_until = time.monotonic() + seconds
        log.warning("The API of %s answers nothing for %.0f seconds: its rate limit is used up", self.host, seconds)
        raise self._busy(seconds)

    def _keep(self, path: str, answer: _Cached[T]) -> T:
        self._cache[path] = answer
        self._cache.move_to_end(path)
        while len(self._cache) > _CACHED:
            self._cache.popitem(last=False)
        return answer.value

    def _busy(self, seconds: float) -> HostBusy:
        minutes = max(1, round(seconds / 60))
        return HostBusy(
            f"{self.host} does not answer more questions of this binder now.",
            f"Try again in {minutes} minute{'s' if minutes > 1 else ''}.",
        )

    def _unavailable(self) -> HostUnavailable:
        return HostUnavailable(f"{self.host} does not answer this binder.", "Try again in a minute.")


def read_commit(body: dict[str, object], key: str) -> str:
    """Return the id under `key` of an answer about a commit. Raises KeyError or TypeError."""
    if not isinstance(commit := body[key], str):
        raise TypeError("a commit whose id is not a text")
    return commit
