"""Holds a request's body until it is verified: small ones in memory, others in a file of the staging directory.

Nothing reaches a bucket before its length, hash and checksums are verified. Runs in the storage process; not for
decoding bodies (`body`).
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

MEMORY_BYTES = 1024 * 1024
_COPY_BYTES = 4 * 1024 * 1024


class Spool:
    """The bytes of one write to a bucket. Must be closed; that deletes its file unless it was moved."""

    def __init__(self, staging: Path, content_type: str = "") -> None:
        self._staging = staging
        self._memory = bytearray()
        self._file: BinaryIO | None = None
        self._path: Path | None = None
        self.content_type = content_type
        self.size = 0
        self.md5 = hashlib.md5(usedforsecurity=False)

    def append(self, data: bytes) -> None:
        """Add `data`; blocks on the disk."""
        self.size += len(data)
        self.md5.update(data)
        if self._file is None and self.size > MEMORY_BYTES:
            self._spill()
        if self._file is not None:
            self._file.write(data)
        else:
            self._memory += data

    def join(self, parts: list[Path]) -> None:
        """Move the files `parts`, joined, into this empty spool: the first becomes its file; blocks on the disk."""
        self._path = self._fresh_path()
        parts[0].rename(self._path)
        self._file = self._path.open("ab")
        for part in parts[1:]:
            with part.open("rb") as source:
                shutil.copyfileobj(source, self._file, _COPY_BYTES)
            part.unlink()
        self.size = self._file.tell()

    @property
    def in_memory(self) -> bytes | None:
        """The content if it is in memory, else None."""
        return bytes(self._memory) if self._file is None else None

    def file(self) -> Path:
        """Return the content as a flushed file, which the spool still owns."""
        if self._file is None:
            self._spill()
        assert self._file is not None and self._path is not None
        self._file.flush()
        return self._path

    def release_file(self) -> None:
        """Give up ownership of the file, which the caller moved."""
        self._path = None

    def close(self) -> None:
        """Delete the file, unless it was released, and the bytes in memory."""
        if self._file is not None:
            self._file.close()
        if self._path is not None:
            self._path.unlink(missing_ok=True)
        self._memory.clear()

    def pieces(self) -> Iterator[bytes]:
        """Yield the content in pieces."""
        if self._file is None:
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
