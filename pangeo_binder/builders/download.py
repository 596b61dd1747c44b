"""Download files from addresses that other services name: bounded redirects, and only to addresses that are allowed.

Not for answers of APIs (`answers`). Runs in the binder and in build pods.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Final
from urllib.parse import urljoin, urlsplit

import aiohttp

from ..public_hosts import Addresses, AddressRefused

_ANSWER_SECONDS: Final = 60
_CHUNK_BYTES: Final = 1 << 18
_REQUESTS: Final = 5
_REDIRECT_STATUSES: Final = (301, 302, 303, 307, 308)


def download_session(addresses: Addresses, user_agent: str) -> aiohttp.ClientSession:
    """Return a session that only contacts `addresses`, without cookies, and leaves bodies as they are sent."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(resolver=addresses),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=_ANSWER_SECONDS, sock_read=_ANSWER_SECONDS),
        headers={"Accept-Encoding": "identity", "User-Agent": user_agent},
        auto_decompress=False,  # a small body may unpack to gigabytes
        cookie_jar=aiohttp.DummyCookieJar(),
        read_bufsize=_CHUNK_BYTES,
        trust_env=True,
    )


async def chunks(
    session: aiohttp.ClientSession, addresses: Addresses, url: str, headers: Mapping[str, str] | None = None
) -> AsyncGenerator[bytes, None]:
    """Yield the body at `url`; the caller limits its size. Raises AddressRefused, ClientError or ValueError."""
    headers = headers or {}
    try:
        for _ in range(_REQUESTS):
            addresses.check(url)
            async with session.get(url, headers=headers, allow_redirects=False) as response:
                if response.status in _REDIRECT_STATUSES:
                    target = urljoin(url, response.headers.get("Location", ""))
                    headers = headers if urlsplit(target)[:2] == urlsplit(url)[:2] else {}  # they may hold a login
                    url = target
                    continue
                response.raise_for_status()
                async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
                    yield chunk
                return
    except aiohttp.ClientError as error:
        if isinstance(refused := getattr(error, "os_error", None), AddressRefused):
            raise refused from None
        raise
    raise ValueError("too many redirects")
