"""The checksums S3 clients send with a body: CRC32, CRC32C, CRC64NVME, SHA-1, SHA-256.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html. Not for signatures (`sigv4`).
"""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Callable, Iterable

from awscrt import checksums as crt

from .errors import S3Error

HEADER = "x-amz-checksum-"
_CRC: dict[str, tuple[Callable[[bytes, int], int], int]] = {
    "crc32": (zlib.crc32, 4),
    "crc32c": (crt.crc32c, 4),
    "crc64nvme": (crt.crc64nvme, 8),
}
_SHA: dict[str, Callable[[], hashlib._Hash]] = {
    "sha1": lambda: hashlib.sha1(usedforsecurity=False),
    "sha256": hashlib.sha256,
}
NAMES = (*_CRC, *_SHA)
"""The algorithms, as in the headers' names."""


class Checksum:
    """One checksum, computed incrementally."""

    def __init__(self, name: str) -> None:
        """Start the checksum `name`. Raises S3Error if S3 has none of that name."""
        if name not in _CRC and name not in _SHA:
            raise S3Error("InvalidRequest", "S3 does not support this checksum algorithm.")
        self.name = name
        self._value = 0
        self._hash = _SHA[name]() if name in _SHA else None

    def update(self, data: bytes) -> None:
        """Add `data`."""
        if self._hash is not None:
            self._hash.update(data)
        else:
            self._value = _CRC[self.name][0](data, self._value)

    def base64(self) -> str:
        """Return the checksum in base64, as in headers."""
        raw = self._hash.digest() if self._hash is not None else self._value.to_bytes(_CRC[self.name][1], "big")
        return base64.b64encode(raw).decode()


def declared_checksums(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the checksums in `headers` (names in lower case), by algorithm."""
    other = ("algorithm", "type", "mode")
    pairs = ((name.removeprefix(HEADER), value) for name, value in headers if name.startswith(HEADER))
    return {name: value.strip() for name, value in pairs if name not in other}
