"""Holds a request's body until it is verified: small ones in memory, others in a file of the staging directory.

Nothing reaches a bucket before its length, hash and checksums are verified. Runs in the storage process; not for
decoding bodies (`body`).
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

MEMORY_BYTES = 1024 * 1024
_COPY_BYTES = 4 * 1024 * 1024


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


class Spool:
    """The bytes of one write to a bucket. Must be closed; that deletes its file unless it was moved."""

    def __init__(self, staging: Path, content_type: str = "") -> None:
        self._staging = staging
        self._memory = bytearray()
        self._file: BinaryIO | None = None
        self._path: Path | None = None
        self._lock = threading.Lock()
        self._closed = False
        self.content_type = content_type
        self.size = 0
        self.md5 = hashlib.md5(usedforsecurity=False)

    def append(self, data: bytes) -> None:
        """Add `data`; blocks on the disk. Does nothing after `close`: a cancelled request leaves its thread running."""
        with self._lock:
            if self._closed:
                return
            self.size += len(data)
            self.md5.update(data)
            if self._file is None and self.size > MEMORY_BYTES:
                self._spill()
            if self._file is not None:
                self._file.write(data)
            else:
                self._memory += data

    def join(self, parts: list[Path]) -> None:
        """Copy the files `parts`, joined, into this empty spool; blocks on the disk. One part is linked, not copied."""
        self._path = self._fresh_path()
        if len(parts) == 1:
            os.link(parts[0], self._path)
        else:
            with open(self._path, "xb", opener=_private) as target:  # closed here: a cancelled request cannot close it
                for part in parts:
                    with part.open("rb") as source:
                        shutil.copyfileobj(source, target, _COPY_BYTES)
        self.size = self._path.stat().st_size

    @property
    def is_small(self) -> bool:
        """Whether the content is in memory, so that adding to it does not wait for the disk."""
        return self._path is None

    @property
    def in_memory(self) -> bytes | None:
        """The content if it is in memory, else None."""
        return bytes(self._memory) if self._path is None else None

    def file(self) -> Path:
        """Return the content as a flushed file, which the spool still owns. Raises OSError, also after `close`."""
        with self._lock:
            if self._closed:
                raise OSError(errno.ECANCELED, "The request ended.")
            if self._path is None:
                self._spill()
            assert self._path is not None
            if self._file is not None:
                self._file.flush()
            return self._path

    def release_file(self) -> None:
        """Give up ownership of the file, which the caller moved."""
        self._path = None

    def close(self) -> None:
        """Delete the file, unless it was released, and the bytes in memory."""
        with self._lock:
            self._closed = True
            try:
                if self._file is not None:
                    self._file.close()  # raises on a full disk, where it cannot write its last bytes
            finally:
                if self._path is not None:
                    self._path.unlink(missing_ok=True)
                self._memory.clear()

    def pieces(self) -> Iterator[bytes]:
        """Yield the content in pieces."""
        if self._path is None:
            yield bytes(self._memory)
            return
        with self.file().open("rb") as source:
            while piece := source.read(_COPY_BYTES):
                yield piece

    def _fresh_path(self) -> Path:
        return self._staging / secrets.token_hex(12)

    def _spill(self) -> None:
        self._path = self._fresh_path()
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        self._file = os.fdopen(descriptor, "wb")
        self._file.write(self._memory)
        self._memory.clear()

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
