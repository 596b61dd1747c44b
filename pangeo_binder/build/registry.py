"""Asks a container registry which image a tag names, by the OCI distribution specification.

Reads only: images are pushed by build pods, with credentials this process never holds. Runs in the binder.
Protocol: https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md and, for tokens,
https://distribution.github.io/distribution/spec/auth/token/
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NoReturn

import aiohttp

from ..errors import BuildFailed

log = logging.getLogger(__name__)

_KINDS: Final = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
_SECONDS: Final = 15
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")
_PARAMETER: Final = re.compile(r'(\w+)="([^"]*)"')


class RegistryUnavailable(BuildFailed):
    """The registry of environments does not answer, or not this binder."""

    status, reason = 503, "registry_unavailable"


@dataclass(frozen=True, slots=True)
class RegistrySettings:
    """Where images of environments are, as each who needs them reaches them."""

    address: str
    """`host[:port]` under which nodes pull; also the other two addresses where they are empty."""
    name: str = "environments"
    """The repository in the registry that holds all environments, one tag each, so that they share layers."""
    push_address: str = ""
    """`host[:port]` under which build pods push."""
    ask_address: str = ""
    """`host[:port]` under which the binder asks."""
    plain_http: bool = False
    """Whether the binder and build pods speak http to it; for a registry within the cluster."""
    credentials: Path | None = field(default=None, repr=False)
    """A file with credentials that may read, as `docker login` writes it (`{"auths": {…}}`); read anew each time."""

    def pull_reference(self, digest: str) -> str:
        """Return the reference of an image by which nodes pull it."""
        return f"{self.address}/{self.name}@{digest}"

    def push_reference(self, tag: str) -> str:
        """Return the reference under which a build pod pushes."""
        return f"{self.push_address or self.address}/{self.name}:{tag}"

    @property
    def asked(self) -> str:
        """The `host[:port]` that the binder asks."""
        return self.ask_address or self.address


class Registry:
    """A client of one registry; for the life of the binder."""

    def __init__(self, settings: RegistrySettings) -> None:
        self.settings = settings
        self._authorization = ""
        self._session: aiohttp.ClientSession | None = None

    async def digest(self, tag: str) -> str | None:
        """Return the digest of the image `tag`, or None where there is none. Raises RegistryUnavailable."""
        try:
            status, digest = await self._asked("HEAD", tag)
            if status == 200 and not digest:  # the header is a SHOULD; the manifest's own digest is the same
                status, digest = await self._asked("GET", tag)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            # an error's text may hold an address with credentials in it
            self._refuse(f"{type(error).__name__}", "does not answer")
        if status == 404:
            return None
        if status in (401, 403):
            self._refuse(f"status {status}", "does not let this binder in")
        if status != 200 or not _DIGEST.fullmatch(digest):
            self._refuse(f"status {status}, digest {digest[:80]!r}", "does not answer as it should")
        return digest

    async def close(self) -> None:
        """Close its connections."""
        if self._session:
            await self._session.close()

    def _refuse(self, detail: str, words: str) -> NoReturn:
        log.warning("The registry at %s %s: %s", self.settings.asked, words, detail)
        raise RegistryUnavailable(
            f"The registry that keeps this binder's environments {words}.",
            "Try again in a few minutes; if it stays so, tell the binder's operator.",
        )

    async def _asked(self, method: str, tag: str) -> tuple[int, str]:
        """Return the answer's status and digest; with a login where the registry asks for one."""
        status, digest, challenges = await self._request(method, tag)
        if status == 401 and (authorization := await self._login(challenges)):
            self._authorization = authorization
            status, digest, _ = await self._request(method, tag)
        return status, digest

    async def _request(self, method: str, tag: str) -> tuple[int, str, Sequence[str]]:
        url = f"{self._scheme}://{self.settings.asked}/v2/{self.settings.name}/manifests/{tag}"
        headers = {"Accept": ", ".join(_KINDS)}
        if self._authorization:
            headers["Authorization"] = self._authorization
        async with self._client().request(method, url, headers=headers, allow_redirects=False) as response:
            digest = response.headers.get("Docker-Content-Digest", "")
            if method == "GET" and response.status == 200 and response.content_type in _KINDS and not digest:
                digest = f"sha256:{hashlib.sha256(await response.read()).hexdigest()}"
            return response.status, digest, response.headers.getall("WWW-Authenticate", [])

    async def _login(self, challenges: Sequence[str]) -> str:
        """Return the Authorization header that answers the registry's challenge, or nothing where none can."""
        basic = self._basic()
        for challenge in challenges:
            scheme, _, rest = challenge.partition(" ")
            if scheme.lower() == "basic" and basic:
                return basic
            if scheme.lower() == "bearer":
                return await self._token(dict(_PARAMETER.findall(rest)), basic)
        return ""

    async def _token(self, asked: dict[str, str], basic: str) -> str:
        realm = asked.pop("realm", "")
        if not realm.startswith("https://") and not (self.settings.plain_http and realm.startswith("http://")):
            return ""  # a password goes nowhere in the clear, whatever the registry asks
        asked["scope"] = f"repository:{self.settings.name}:pull"
        query: dict[str, str] = {name: asked[name] for name in ("service", "scope") if name in asked}
        headers = {"Authorization": basic} if basic else {}
        async with self._client().get(realm, params=query, headers=headers, allow_redirects=False) as response:
            if response.status != 200:
                return ""
            answer = await response.json(content_type=None)
        token = answer.get("token") or answer.get("access_token") or ""
        return f"Bearer {token}" if token else ""

    def _basic(self) -> str:
        """Return the Authorization header of the file's user, or nothing where it has none for this registry."""
        if not self.settings.credentials:
            return ""
        listed = json.loads(self.settings.credentials.read_text()).get("auths", {})
        for place, entry in listed.items():
            if place.partition("://")[2].partition("/")[0] == self.settings.asked or place == self.settings.asked:
                login = f"{entry.get('username', '')}:{entry.get('password', '')}".encode()
                return f"Basic {entry.get('auth') or base64.b64encode(login).decode()}"
        return ""

    @property
    def _scheme(self) -> str:
        return "http" if self.settings.plain_http else "https"

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_SECONDS), trust_env=True)
        return self._session
