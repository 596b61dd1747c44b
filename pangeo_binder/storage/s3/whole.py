"""Verifies the checksum of a whole object that a client sends when it completes a multipart upload.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html: either of all bytes, or of the
checksums of the parts, which ends in a dash and their number. Not for checksums of bodies (`body`).
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from pathlib import Path

from .call import Call
from .checksums import Checksum, declared_checksums
from .errors import S3Error
from .filework import in_copy_thread
from .spool import Spool
from .uploads import Part

_READ_BYTES = 4 * 1024 * 1024


async def check_whole(call: Call, spool: Spool, parts: list[Part]) -> None:
    """Raise S3Error unless the object in `spool`, joined from `parts`, has the checksum that the request declares."""
    for name, declared in declared_checksums(call.body.request.headers).items():
        computed = await in_copy_thread(_compute, name, declared, spool, parts)
        if computed != declared:
            raise S3Error("BadDigest", f"The {name} checksum of the object is not the one sent with the request.")


def _compute(name: str, declared: str, spool: Spool, parts: list[Part]) -> str:
    if "-" not in declared:
        return _of_bytes(name, spool.pieces())
    inner = b"".join(base64.b64decode(_of_bytes(name, _pieces(part.path))) for part in parts)
    return f"{_of_bytes(name, [inner])}-{len(parts)}"


def _of_bytes(name: str, pieces: Iterable[bytes]) -> str:
    checksum = Checksum(name)
    for piece in pieces:
        checksum.update(piece)
    return checksum.base64()


def _pieces(path: Path) -> Iterable[bytes]:
    with path.open("rb") as file:
        while piece := file.read(_READ_BYTES):
            yield piece
