"""A client of the archives' APIs: JSON answers over HTTP, bounded in size, time and redirects.

Each failure is one sentence that names the archive. Used by the binder and in builders; not for files
(`builders.download`).
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import urljoin, urlsplit

import aiohttp

from ..answers import AnswerInvalid, AnswerTooLarge, parse_json, read_bytes
from ..errors import HostBusy, HostUnavailable, RepoNotFound, RepoTooLarge, UserError
from ..public_hosts import Addresses, AddressRefused

_ANSWER_BYTES: Final = 4 << 20
"""About 3,000 files of a Dataverse dataset, which says most about each file; parsing takes some 40 ms."""
_TIMEOUT: Final = aiohttp.ClientTimeout(total=30)
_HEADERS: Final = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "pangeo-binder"}
_REQUESTS: Final = 6
_REDIRECTS: Final = (301, 302, 303, 307, 308)
_LATER: Final = "Try again in a minute."
_WHOLE: Final = re.compile("[0-9]{1,15}")

Asker = Callable[[str, Callable[[], Awaitable[Any]]], Awaitable[Any]]
"""Awaits a request to the host of a URL; may repeat it, or refuse it if the host has stopped answering."""


async def ask_once(url: str, request: Callable[[], Awaitable[Any]]) -> Any:
    """Return what `request` returns: for a build, which reads an archive only after the binder did."""
    return await request()


class Api:
    """A client of one archive, named `archive` in sentences."""

    def __init__(self, archive: str, server: str, asker: Asker = ask_once) -> None:
        """The host of `server`, a URL that the operator set, may have a private address; if it is empty, none may."""
        self.archive = archive
        self._server = server
        self._asker = asker

    async def read(self, url: str, method: str = "GET", **given: Any) -> Any:
        """Return the JSON value at `url`; `given` is for `aiohttp.ClientSession.request`, which only reads.

        A redirect is followed if it does not leave the server. Raises RepoNotFound, RepoTooLarge, HostBusy or
        HostUnavailable.
        """
        try:
            return await self._asker(url, lambda: self._request(method, url, given))
        except AnswerTooLarge:
            raise RepoTooLarge(f"{self.archive} says more about this record than this binder reads.") from None
        except aiohttp.InvalidURL as error:  # also a ValueError, as those of answers
            raise self._unreachable(error) from None
        except (AnswerInvalid, ValueError, KeyError):
            raise self.undocumented() from None

    async def _request(self, method: str, url: str, given: dict[str, Any]) -> Any:
        """Read `url`. Raises HostUnavailable only if the archive does not answer: any other error is an answer."""
        try:
            addresses = Addresses(self._server)
            addresses.check(url)
            async with _session(addresses) as session:
                return await self._read(session, method, url, given)
        except (AnswerInvalid, ValueError):
            raise
        except (aiohttp.ClientError, AddressRefused, TimeoutError, OSError) as error:
            raise self._unreachable(error) from None

    async def _read(self, session: aiohttp.ClientSession, method: str, url: str, given: dict[str, Any]) -> Any:
        for _ in range(_REQUESTS):
            async with session.request(method, url, allow_redirects=False, **given) as response:
                if response.status in _REDIRECTS:
                    target = urljoin(url, response.headers.get("Location", ""))
                    if urlsplit(target)[:2] != urlsplit(url)[:2]:
                        break
                    url = target
                    continue
                if response.status != 200:
                    raise self._failure(response.status)
                return parse_json(await read_bytes(response, _ANSWER_BYTES))
        raise AnswerInvalid("a redirect that leaves the server, or one too many")

    @contextmanager
    def documented(self) -> Iterator[None]:
        """Convert the error of code that reads an answer which is not as documented. Raises HostUnavailable."""
        try:
            yield
        except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError):
            raise self.undocumented() from None

    def undocumented(self) -> HostUnavailable:
        """Return the error for an answer that is not as documented."""
        return HostUnavailable(f"{self.archive} did not answer as documented.", _LATER)

    def not_found(self) -> RepoNotFound:
        """Return the error for a record that does not exist."""
        return RepoNotFound(f"{self.archive} does not have what the link names.", "Check the link.")

    def _unreachable(self, error: Exception) -> UserError:
        cause = getattr(error, "os_error", None)
        # InvalidURL is for 127.1 and the like, which are neither names nor full addresses
        if isinstance(error, AddressRefused | aiohttp.InvalidURL) or isinstance(cause, AddressRefused):
            return RepoNotFound(f"{self.archive} is not at a public address.", "A binder reads public records only.")
        return HostUnavailable(f"{self.archive} does not answer this binder.", _LATER)

    def _failure(self, status: int) -> UserError:
        if status in (401, 403):
            return RepoNotFound(f"{self.archive} does not show this record to everyone.", "Launch a public record.")
        if status in (400, 404, 410):
            return self.not_found()
        if status == 429:
            return HostBusy(f"{self.archive} does not answer more questions of this binder now.", _LATER)
        return HostUnavailable(f"{self.archive} does not answer this binder.", _LATER)


def whole(value: Any) -> int:
    """Return a number of an answer, which may also be written as text. Raises ValueError for anything else."""
    if not _WHOLE.fullmatch(str(value)):
        raise ValueError("not a whole number")
    return int(value)


def _session(addresses: Addresses) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(resolver=addresses),
        timeout=_TIMEOUT,
        headers=_HEADERS,
        auto_decompress=False,  # one small chunk may unpack to much more than the limit
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=True,
    )
