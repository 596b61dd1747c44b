"""Read where a branch of a repository of this machine points from its files, without a process.

Every launch looks up a ref, and for a folder of this machine the start of git would take most of that time. This reads
only what git writes by itself, and leaves everything else to git: other refs and formats, linked worktrees, settings
that hide refs, and folders of other users, which git refuses. Whether the commit exists, the checkout finds out. Runs
in the binder. Format: https://git-scm.com/docs/gitrepository-layout
"""

from __future__ import annotations

import asyncio
import os
import re
from concurrent.futures import Future
from contextlib import closing
from pathlib import Path
from queue import SimpleQueue
from stat import S_ISDIR, S_ISREG
from threading import Thread

_SECONDS = 1.0
_REF_BYTES, _CONFIG_BYTES, _PACKED_BYTES = 1 << 10, 1 << 16, 1 << 20
_COMMIT = re.compile(rb"([0-9a-f]{40})\n")
_HEAD = re.compile(rb"ref: (refs/heads/.+)\n")
_BRANCH = re.compile(rb"refs/heads(?:/[\w+@=#,!%-][\w.+@=#,!%-]*)+(?<!\.lock)")
_FORMAT = b"repositoryformatversion"
_FIRST_FORMAT = re.compile(rb"^\s*%s\s*=\s*0\s*$" % _FORMAT, re.MULTILINE)
_UNUSUAL_SETTINGS = (b"extensions", b"include", b"hiderefs")
"""In lower case; names of sections and settings cannot be quoted."""


class Branches:
    """Reader with one thread. While a folder that does not answer holds it, git reads, which has limits of time."""

    def __init__(self) -> None:
        self._asked = SimpleQueue[tuple[Future[str | None], Path, str]]()
        self._thread: Thread | None = None
        self._last: Future[str | None] | None = None

    async def find(self, folder: str, name: str) -> str | None:
        """Return the commit of `name` (`HEAD` or a full ref) in the repository at `folder`; None if git has to read."""
        if self._last is not None and not self._last.done():
            return None
        if self._thread is None:
            # a daemon, because a folder that never answers must not keep the process from ending
            self._thread = Thread(target=self._read_all, name="branches", daemon=True)
            self._thread.start()
        self._last = Future()
        self._asked.put((self._last, Path(folder), name))
        try:
            async with asyncio.timeout(_SECONDS):
                return await asyncio.wrap_future(self._last)
        except (OSError, ValueError, TimeoutError):
            return None

    def _read_all(self) -> None:
        while True:
            found, folder, name = self._asked.get()
            if not found.set_running_or_notify_cancel():
                continue
            try:
                found.set_result(self.read(folder, name))
            except Exception as error:
                found.set_exception(error)

    def read(self, folder: Path, name: str) -> str | None:
        """Return the commit of `name`, or None. Raises OSError or ValueError for a file that is absent or unusual."""
        git = folder / ".git"
        git = git if os.path.lexists(git) else folder  # as git-upload-pack(1) finds it
        # git refuses folders of other users: git-config(1), `safe.directory`
        is_own = git.lstat().st_uid == os.geteuid()
        is_repository = all(_is_folder(each) for each in (git, git / "objects", git / "refs"))
        if not is_own or not is_repository or (git / "commondir").exists():
            return None
        if not _is_plain(_content(git / "config", _CONFIG_BYTES)):
            return None
        head, ref = _content(git / "HEAD", _REF_BYTES), name.encode()
        if ref == b"HEAD":
            if detached := _COMMIT.fullmatch(head):
                return detached[1].decode()
            ref = target[1] if (target := _HEAD.fullmatch(head)) else b""
        return _commit(git, ref) if _BRANCH.fullmatch(ref) else None


def _commit(git: Path, ref: bytes) -> str | None:
    """Return the commit of a branch. Git packs refs before it deletes their files, so the file comes first."""
    try:
        found = _COMMIT.fullmatch(_content(git / ref.decode(), _REF_BYTES))
    except FileNotFoundError:
        packed = _content(git / "packed-refs", _PACKED_BYTES)
        found = re.search(rb"^([0-9a-f]{40}) %s$" % re.escape(ref), packed, re.MULTILINE)
    return found[1].decode() if found else None


def _is_folder(path: Path) -> bool:
    return S_ISDIR(path.lstat().st_mode)


def _is_plain(config: bytes) -> bool:
    """Return whether a repository's settings are of the format without extensions, and hide no refs.

    See git-config(1), `core.repositoryFormatVersion` and `transfer.hideRefs`.
    """
    settings = config.lower()
    is_first = settings.count(_FORMAT) == 1 and _FIRST_FORMAT.search(settings)
    return bool(is_first) and not any(each in settings for each in _UNUSUAL_SETTINGS)


def _content(path: Path, most: int) -> bytes:
    """Return the content of a file. Raises OSError or ValueError if it is absent, no plain file, or too large."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK  # a pipe would wait for its writer
    with closing(os.fdopen(os.open(path, flags), "rb")) as file:
        if not S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError("no plain file")
        content = file.read(most + 1)
    if len(content) > most:
        raise ValueError("too large")
    return content
