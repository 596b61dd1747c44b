"""Asks a container registry which image a tag names, by the OCI distribution specification.

Reads only: build pods push images, with credentials that this process never has. Runs in the binder.
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
from typing import Any, Final, NoReturn

import aiohttp

from ...answers import AnswerInvalid, is_no_answer, parse_json, read_bytes, read_object
from ...errors import BuildFailed
from ...peers import Peering, PeerKind, Peers

log = logging.getLogger(__name__)

_KINDS: Final = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
_SECONDS: Final = 15
DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")
_PARAMETER: Final = re.compile(r'(\w+)="([^"]*)"')


@dataclass(frozen=True, slots=True)
class _Answer:
    """What the registry answered to one request."""

    status: int
    digest: str
    body: bytes
    challenges: Sequence[str]


class _OutOfOrder(Exception):
    """The registry answered that it cannot answer now."""


class RegistryUnavailable(BuildFailed):
    """The registry of environments does not answer, or refuses this binder."""

    status, reason = 503, "registry_unavailable"


@dataclass(frozen=True, slots=True)
class RegistrySettings:
    """The registry of environments' images, with its addresses for nodes, build pods and binder."""

    address: str
    """`host[:port]` from which nodes pull; also the default of the other two addresses."""
    name: str = "environments"
    """The repository in the registry that holds all environments, one tag each, so that they share layers."""
    push_address: str = ""
    """`host[:port]` to which build pods push."""
    ask_address: str = ""
    """`host[:port]` at which the binder reads."""
    plain_http: bool = False
    """Whether binder and build pods use HTTP without TLS; for a registry within the cluster."""
    credentials: Path | None = field(default=None, repr=False)
    """A file with credentials for reading, as `docker login` writes it (`{"auths": {…}}`); read each time."""

    def pull_reference(self, digest: str) -> str:
        """Return the reference of an image by which nodes pull it."""
        return f"{self.address}/{self.name}@{digest}"

    def push_reference(self, tag: str) -> str:
        """Return the reference to which a build pod pushes."""
        return f"{self.push_address or self.address}/{self.name}:{tag}"

    @property
    def asked(self) -> str:
        """The `host[:port]` from which the binder reads."""
        return self.ask_address or self.address


class Registry:
    """A client of one registry; for the life of the binder."""

    def __init__(self, settings: RegistrySettings) -> None:
        self.settings = settings
        self._authorization = ""
        self._session: aiohttp.ClientSession | None = None
        self._peers = Peers(Peering(PeerKind.REGISTRY, _is_away, lambda _: _unavailable("does not answer")))

    async def digest(self, tag: str) -> str | None:
        """Return the digest of the image `tag`, or None if there is none. Raises RegistryUnavailable."""
        answer = await self._asked("HEAD", f"manifests/{tag}")
        if answer and not answer.digest:  # the header is a SHOULD; the manifest's own digest is the same
            answer = await self._asked("GET", f"manifests/{tag}")
        if answer is None:
            return None
        if not DIGEST.fullmatch(answer.digest):
            self._refuse(f"digest {answer.digest[:80]!r}", "gives an unexpected answer")
        return answer.digest

    async def labels(self, digest: str) -> dict[str, str]:
        """Return the labels of the image `digest`, of an index those of its first. Raises RegistryUnavailable."""
        try:
            manifest = await self._document("manifests", digest)
            if "manifests" in manifest:
                manifest = await self._document("manifests", manifest["manifests"][0]["digest"])
            image = await self._document("blobs", manifest["config"]["digest"])
            return dict(image.get("config", {}).get("Labels") or {})
        except (AttributeError, LookupError, TypeError, ValueError, AnswerInvalid) as error:
            self._refuse(f"{type(error).__name__} in {digest}", "gives an unexpected answer")

    async def close(self) -> None:
        """Close its connections."""
        if self._session:
            await self._session.close()

    def _refuse(self, detail: str, words: str) -> NoReturn:
        log.warning("The registry at %s %s: %s", self.settings.asked, words, detail)
        raise _unavailable(words)

    async def _document(self, kind: str, digest: str) -> dict[str, Any]:
        """Return the document `digest`, which must exist. Raises RegistryUnavailable, LookupError, AnswerInvalid."""
        answer = await self._asked("GET", f"{kind}/{digest}") if DIGEST.fullmatch(digest) else None
        if answer is None:
            raise LookupError(digest)
        found: dict[str, Any] = parse_json(answer.body)
        return found

    async def _asked(self, method: str, path: str) -> _Answer | None:
        """Return the answer, or None if nothing exists there; log in if the registry requires it."""
        try:
            answer = await self._request(method, path)
            if answer.status == 401 and (authorization := await self._login(answer.challenges)):
                self._authorization = authorization
                answer = await self._request(method, path)
        except AnswerInvalid as error:
            self._refuse(str(error), "gives an unexpected answer")
        except _OutOfOrder as error:
            self._refuse(str(error), "is out of order")
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            # an error's text may hold an address with credentials in it
            self._refuse(f"{type(error).__name__}", "does not answer")
        if answer.status in (401, 403):
            self._refuse(f"status {answer.status}", "does not accept this binder")
        if answer.status not in (200, 404):
            self._refuse(f"status {answer.status}", "gives an unexpected answer")
        return answer if answer.status == 200 else None

    async def _request(self, method: str, path: str) -> _Answer:
        return await self._peers.call(lambda: self._answer(method, path), self.settings.asked, repeat=True)

    async def _answer(self, method: str, path: str) -> _Answer:
        url = f"{self._scheme}://{self.settings.asked}/v2/{self.settings.name}/{path}"
        headers = {"Accept": ", ".join(_KINDS)}
        if self._authorization:
            headers["Authorization"] = self._authorization
        # registries redirect to their storage of blobs; aiohttp does not send the login to another host
        elsewhere = path.startswith("blobs/")
        async with self._client().request(method, url, headers=headers, allow_redirects=elsewhere) as response:
            if response.status >= 500:
                raise _OutOfOrder(f"status {response.status}")
            body = b""
            if method == "GET" and response.status == 200:
                body = await read_bytes(response)
            digest = response.headers.get("Docker-Content-Digest", "")
            if body and response.content_type in _KINDS and not digest:
                digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
            return _Answer(response.status, digest, body, response.headers.getall("WWW-Authenticate", []))

    async def _login(self, challenges: Sequence[str]) -> str:
        """Return the Authorization header that answers the registry's challenge, or nothing if it has no answer."""
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
            return ""  # never send a password without TLS, whatever the registry requests
        asked["scope"] = f"repository:{self.settings.name}:pull"
        query: dict[str, str] = {name: asked[name] for name in ("service", "scope") if name in asked}
        headers = {"Authorization": basic} if basic else {}
        async with self._client().get(realm, params=query, headers=headers, allow_redirects=False) as response:
            if response.status != 200:
                return ""
            answer = await read_object(response)
        token = answer.get("token") or answer.get("access_token") or ""
        return f"Bearer {token}" if token else ""

    def _basic(self) -> str:
        """Return the Authorization header of the file's user, or nothing if it has none for this registry."""
        if not self.settings.credentials:
            return ""
        listed = json.loads(self.settings.credentials.read_text()).get("auths", {})
        for location, entry in listed.items():
            if location.partition("://")[2].partition("/")[0] == self.settings.asked or location == self.settings.asked:
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


def _is_away(error: BaseException) -> bool:
    """Return whether `error` means that the registry did not answer, or only with an error of its own."""
    return isinstance(error, _OutOfOrder) or is_no_answer(error)


def _unavailable(words: str) -> RegistryUnavailable:
    return RegistryUnavailable(
        f"The registry that keeps this binder's environments {words}.",
        "Try again in a few minutes; if it happens again, tell the operator of this binder.",
    )
