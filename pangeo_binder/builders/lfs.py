"""Fetch a checkout's Git LFS files within limits of number, size and time, and name those that are left as pointers.

Our own client of the batch API, and not git-lfs: the repository configures that one (`.lfsconfig`), and the server's
answers send it to any address of the binder's network. This client contacts only the repository's own server, and
public addresses that it names. Protocol: https://github.com/git-lfs/git-lfs/tree/main/docs/api. Runs in the binder and
in build pods.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import shutil
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from ..addresses import AddressRules
from ..answers import AnswerInvalid, read_object
from ..command import CAPTURE_BYTES
from ..errors import UserError
from ..git import Git, https_url
from ..public_hosts import Addresses, AddressRefused
from .download import chunks, download_session
from .lfs_addresses import lfs_server

_POINTER = re.compile(
    rb"version https://git-lfs\.github\.com/spec/v1\n(?:[^\n]*\n)*?"
    rb"oid sha256:(?P<oid>[0-9a-f]{64})\nsize (?P<size>[0-9]{1,18})\n"
)
_POINTER_BYTES = 1024  # https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md
_BATCH = 100  # the largest batch of common servers
_BATCH_BYTES = 1 << 20
_JSON = {"Accept": "application/vnd.git-lfs+json", "Content-Type": "application/vnd.git-lfs+json"}
_SHOWN = 10
_NAME_CHARACTERS = 100
_OWN_HEADERS = ("host", "connection", "content-length", "transfer-encoding", "accept-encoding")


@dataclass(frozen=True, slots=True)
class LfsLimits:
    """Limits of the LFS files of one checkout."""

    files: int = 1000
    bytes: int = 1 << 30
    """The size of all files together; each launch gets a copy."""
    seconds: float = 300


@dataclass(frozen=True, slots=True)
class _Pointer:
    """A file of the checkout that stands for an LFS object."""

    path: str
    """Its path in the checkout."""
    oid: str
    """The SHA-256 of the object."""
    size: int


_Left = defaultdict[str, list[str]]
"""The paths that are left as pointers, by the reason."""


class _Unavailable(Exception):
    """An object cannot be fetched; the text completes a sentence with "because"."""


class LfsFiles:
    """The LFS files of a checkout and of its submodules, which share the limits."""

    def __init__(self, git: Git, deadline: float, limits: LfsLimits) -> None:
        self._git = git
        self._limits = limits
        self._deadline = min(deadline, time.monotonic() + limits.seconds)
        self._files = self._bytes = 0

    async def fetch(self, folder: Path) -> AsyncGenerator[str, None]:
        """Replace the pointers in `folder` by the files, and yield the log. A failure leaves pointers and is logged."""
        try:
            listed = await self._git.run("ls-files", "-z", "--", ":(attr:filter=lfs)", cwd=folder)
        except UserError:
            yield f"Left the LFS files as pointers, because their names have more than {CAPTURE_BYTES >> 20} MiB."
            return
        pointers = await asyncio.to_thread(_pointers, folder, listed.out.split("\0"))
        left = defaultdict[str, list[str]](list)
        if wanted := self._within_limits(pointers, left):
            yield f"Fetching {len(wanted)} LFS files, {sum(each.size for each in wanted) / (1 << 20):.1f} MiB"
            await self._fetch(folder, wanted, left)
        for reason, paths in left.items():
            names = ", ".join(map(_shown, paths[:_SHOWN])) + (", …" if len(paths) > _SHOWN else "")
            yield f"Left {len(paths)} of {len(pointers)} LFS files as pointers, because {reason}: {names}"

    def _within_limits(self, pointers: Iterable[_Pointer], left: _Left) -> list[_Pointer]:
        wanted = []
        for each in pointers:
            if self._files == self._limits.files:
                left[f"there are more than {self._limits.files}"].append(each.path)
            elif self._bytes + each.size > self._limits.bytes:
                left[f"together they exceed {self._limits.bytes / (1 << 20):.0f} MiB"].append(each.path)
            else:
                wanted.append(each)
                self._files += 1
                self._bytes += each.size
        return wanted

    async def _fetch(self, folder: Path, wanted: list[_Pointer], left: _Left) -> None:
        paths = defaultdict[tuple[str, int], list[str]](list)
        for each in wanted:
            paths[each.oid, each.size].append(each.path)
        reason, objects = "", list(paths)
        try:
            async with (
                asyncio.timeout(self._deadline - time.monotonic()),
                _Client(await self._server(folder), self._git.access.rules) as client,
            ):
                while objects:
                    batch, objects = objects[:_BATCH], objects[_BATCH:]
                    actions = await client.ask(batch)
                    for oid_size in batch:
                        action = actions.get(oid_size[0])
                        if failure := await self._fetch_one(client, action, folder, oid_size, paths[oid_size]):
                            left[failure].extend(paths[oid_size])
                        del paths[oid_size]
        except _Unavailable as unavailable:
            reason = str(unavailable)
        except TimeoutError:
            reason = f"fetching them took longer than {self._limits.seconds:.0f} seconds"
        for remaining in paths.values():
            left[reason].extend(remaining)

    async def _server(self, folder: Path) -> str:
        """Return the address of the batch API. Raises _Unavailable."""
        url = (await self._git.run("config", "--get", "remote.origin.url", cwd=folder)).out.strip()
        settings = folder / ".lfsconfig"
        named = ""
        if settings.is_file() and not settings.is_symlink():
            args = ("config", "--file", ".lfsconfig", "--get", "lfs.url")
            named = (await self._git.run(*args, cwd=folder)).out.strip()
        try:
            return lfs_server(https_url(url) or url, named)
        except AddressRefused as refused:
            raise _Unavailable(str(refused)) from None

    async def _fetch_one(
        self, client: _Client, action: Any, folder: Path, oid_size: tuple[str, int], paths: list[str]
    ) -> str:
        """Fetch one object and put it at `paths` in `folder`; return why not, or ''."""
        try:
            await client.download(action, *oid_size, [folder / path for path in paths])
        except _Unavailable as unavailable:
            return str(unavailable)
        # `git status` would show them as changed: without git-lfs, git compares them with the pointers
        await self._git.run("update-index", "--assume-unchanged", "--", *paths, cwd=folder)
        return ""


class _Client:
    """A client of one LFS server."""

    def __init__(self, server: str, rules: AddressRules) -> None:
        self._server = server
        self._addresses = Addresses(server, rules)

    async def __aenter__(self) -> _Client:
        self._session = download_session(self._addresses, "git-lfs/3 (pangeo-binder)")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def ask(self, objects: list[tuple[str, int]]) -> dict[str, Any]:
        """Return the server's answer for each object, by its oid. Raises _Unavailable."""
        wanted = [{"oid": oid, "size": size} for oid, size in objects]
        body = {"operation": "download", "transfers": ["basic"], "objects": wanted, "hash_algo": "sha256"}
        try:
            url = f"{self._server}/objects/batch"
            self._addresses.check(url)
            async with self._session.post(url, json=body, headers=_JSON, allow_redirects=False) as response:
                if response.status != 200:
                    raise _Unavailable(
                        _REFUSALS.get(response.status, f"their server answered with status {response.status}")
                    )
                answer = await read_object(response, _BATCH_BYTES)
        except AddressRefused as refused:
            raise _Unavailable(str(refused)) from None
        except AnswerInvalid:
            raise _Unavailable("their server did not answer as an LFS server does") from None
        except (aiohttp.ClientError, OSError, ValueError):
            raise _Unavailable("their server cannot be reached from this binder") from None
        found = answer.get("objects")
        entries = [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []
        return {str(each.get("oid")): each for each in entries}

    async def download(self, entry: Any, oid: str, size: int, targets: list[Path]) -> None:
        """Fetch one object, verify it, and put it at each of `targets`. Raises _Unavailable."""
        try:
            action = entry["actions"]["download"]
            url, given = str(action["href"]), action.get("header") or {}
            headers = {key: str(value) for key, value in given.items() if key.lower() not in _OWN_HEADERS}
        except (KeyError, TypeError, AttributeError):
            raise _Unavailable("their server does not have them") from None
        with tempfile.NamedTemporaryFile(dir=targets[0].parent, prefix=".lfs-") as part:
            try:
                await self._receive(url, headers, part, size)
            except AddressRefused as refused:
                raise _Unavailable(str(refused)) from None
            except (aiohttp.ClientError, ValueError):
                raise _Unavailable("their server did not send them") from None
            await asyncio.to_thread(_put, Path(part.name), oid, targets)

    async def _receive(self, url: str, headers: dict[str, str], file: Any, size: int) -> None:
        """Write the body at `url` to `file`. Raises AddressRefused, ClientError, ValueError or _Unavailable."""
        received = 0
        async with aclosing(chunks(self._session, self._addresses, url, headers)) as body:
            async for chunk in body:
                received += len(chunk)
                if received > size:
                    raise _Unavailable("their server sent something else")
                file.write(chunk)
        file.flush()


_REFUSALS = {
    401: "their server requires a login",
    403: "their server requires a login",
    404: "their server has no LFS files of this repository",
    429: "their server allows no more requests now",
    507: "their server's quota is used up",
    509: "the bandwidth limit of their server is used up",
}


def _pointers(folder: Path, paths: Iterable[str]) -> list[_Pointer]:
    """Return the pointers among the files at `paths`."""
    found = []
    for path in filter(None, paths):
        file = folder / path
        if file.is_symlink() or not file.is_file() or file.stat().st_size > _POINTER_BYTES:
            continue
        if match := _POINTER.match(file.read_bytes()):
            found.append(_Pointer(path, match["oid"].decode(), int(match["size"])))
    return found


def _put(part: Path, oid: str, targets: list[Path]) -> None:
    """Replace each of `targets` by a copy of `part`. Raises _Unavailable if it is not the object."""
    with part.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != oid:
            raise _Unavailable("their server sent something else")
    for target in targets:
        mode = target.stat().st_mode
        target.unlink()
        shutil.copyfile(part, target)
        target.chmod(mode)


def _shown(path: str) -> str:
    return "".join(each if each.isprintable() else "?" for each in path[:_NAME_CHARACTERS])
