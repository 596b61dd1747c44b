"""Reads a request's body into a spool, removes aws-chunked framing, and verifies what the client declared about it.

Format: https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming-trailers.html. Raises S3Error if the length,
the payload hash, a chunk's signature, a checksum or Content-MD5 is wrong. Not for interpreting the content.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from itertools import count

from aiohttp import StreamReader

from ...metrics import STORAGE_BYTES
from .checksums import HEADER, Checksum, declared_checksums
from .errors import S3Error
from .filework import in_file_thread
from .sigv4 import (
    STREAMING,
    STREAMING_SIGNED,
    STREAMING_UNSIGNED_TRAILER,
    UNSIGNED_PAYLOAD,
    ChunkSigner,
    Claim,
    SignedRequest,
    equal_in_constant_time,
)
from .spool import Spool

MAX_BODY_BYTES = 5 * 1024**3
"""S3's own limit for one PUT."""
MAX_CHUNK_BYTES = 16 * 1024 * 1024
_BATCH_BYTES = 1024 * 1024
_PIECE_BYTES = 256 * 1024
_CHUNKS_AT_ONCE = 64
_TRAILER_LINES = 16
_HEX = re.compile(rb"[0-9a-fA-F]{1,8}")


@dataclass(frozen=True, slots=True)
class Body:
    """An unread body, with its request, the request's claim, and the signer of its chunks."""

    content: StreamReader
    request: SignedRequest
    claim: Claim
    signer: ChunkSigner
    has_checksums: bool = True
    """Whether checksums in the headers are of this body; those of Complete are of the object."""

    @property
    def chunked(self) -> bool:
        """Whether it is framed as aws-chunked."""
        return self.claim.payload_hash in STREAMING

    def size(self, limit: int = MAX_BODY_BYTES) -> int:
        """Return its declared length without framing, in bytes. Raises S3Error if it is missing or over `limit`."""
        text = self.request.header("x-amz-decoded-content-length" if self.chunked else "content-length")
        if not (text.isascii() and text.isdecimal() and len(text) < 16):
            raise S3Error("MissingContentLength", "The request must declare the length of its body.")
        if int(text) > limit:
            raise S3Error("EntityTooLarge", f"The body is longer than {limit} bytes, the limit of one request.")
        return int(text)


@dataclass(slots=True)
class _Trailer:
    """The headers after the last chunk."""

    headers: list[tuple[str, str]] = field(default_factory=list)


async def receive(body: Body, spool: Spool, limit: int = MAX_BODY_BYTES) -> None:
    """Read `body` into `spool` and verify it. Raises S3Error."""
    size, trailer, check = body.size(limit), _Trailer(), _Check(body)
    batch = bytearray()
    async for piece in _pieces(body, trailer):
        batch += piece
        if spool.size + len(batch) > size:
            raise S3Error("IncompleteBody", "The body is longer than the request declared.")
        if len(batch) >= _BATCH_BYTES:
            await in_file_thread(check.feed, bytes(batch), spool)
            batch.clear()
    if len(batch) > _BATCH_BYTES // 8 or not spool.is_small:
        await in_file_thread(check.feed, bytes(batch), spool)
    else:  # a thread would cost more than the write
        check.feed(bytes(batch), spool)
    if spool.size != size:
        raise S3Error("IncompleteBody", "The body is shorter than the request declared.")
    check.finish(spool, trailer)
    STORAGE_BYTES.labels("in").inc(size)


class _Check:
    """Writer that feeds a body to its spool, its payload hash and its checksums."""

    def __init__(self, body: Body) -> None:
        self._request = body.request
        payload = body.claim.payload_hash
        self._expected_sha256 = "" if payload in (UNSIGNED_PAYLOAD, *STREAMING) else payload
        self._sha256 = hashlib.sha256()
        self._claimed = declared_checksums(body.request.headers) if body.has_checksums else {}
        named = [name.strip().lower() for name in self._request.header("x-amz-trailer").split(",") if name.strip()]
        if not all(name.startswith(HEADER) for name in named):
            raise S3Error("NotImplemented", "The only supported trailing headers are checksums.")
        self._trailing = declared_checksums([(name, "") for name in named])
        self._checksums = [Checksum(name) for name in {**self._claimed, **self._trailing}]

    def feed(self, data: bytes, spool: Spool) -> None:
        """Append `data` to the spool and update the hashes; blocks on the disk."""
        spool.append(data)
        if self._expected_sha256:
            self._sha256.update(data)
        for checksum in self._checksums:
            checksum.update(data)

    def finish(self, spool: Spool, trailer: _Trailer) -> None:
        """Compare hash, checksums and MD5 with the declared ones. Raises S3Error."""
        if self._expected_sha256 and not equal_in_constant_time(self._sha256.hexdigest(), self._expected_sha256):
            raise S3Error("XAmzContentSHA256Mismatch", "The SHA-256 of the body is not the signed one.")
        expected = {**self._trailing, **self._claimed, **declared_checksums(trailer.headers)}
        for checksum in self._checksums:
            if checksum.base64() != expected[checksum.name]:
                raise S3Error("BadDigest", f"The {checksum.name} checksum of the body is not the one sent with it.")
        md5 = self._request.header("content-md5")
        if md5 and md5 != base64.b64encode(spool.md5.digest()).decode():
            raise S3Error("BadDigest", "The MD5 of the body is not the Content-MD5 sent with it.")


async def _pieces(body: Body, trailer: _Trailer) -> AsyncIterator[bytes]:
    if not body.chunked:
        async for data in body.content.iter_any():
            yield data
        return
    try:
        async for data in _chunks(body, trailer):
            yield data
    except asyncio.IncompleteReadError:
        raise S3Error("IncompleteBody", "The body ended inside a chunk.") from None


async def _chunks(body: Body, trailer: _Trailer) -> AsyncIterator[bytes]:
    signed = body.claim.payload_hash != STREAMING_UNSIGNED_TRAILER
    signature = body.signer.seed
    for number in count(1):
        if number % _CHUNKS_AT_ONCE == 0:  # chunks that have arrived are read without a pause
            await asyncio.sleep(0)
        size, named = _chunk_head(await _line(body.content))
        sha256, left = hashlib.sha256(), size
        while left:  # in pieces: a whole chunk would fill the memory, and its hash would block the event loop
            piece = await body.content.read(min(left, _PIECE_BYTES))
            if not piece:
                raise S3Error("IncompleteBody", "The body ended inside a chunk.")
            left -= len(piece)
            if signed:
                sha256.update(piece)
            yield piece
        if size and await body.content.readexactly(2) != b"\r\n":
            raise _malformed()
        if signed:
            signature = body.signer.chunk(signature, sha256.hexdigest())
            _check_signature(signature, named)
        if not size:
            break
    if body.claim.payload_hash != STREAMING_SIGNED:
        await _read_trailer(body, trailer, signature if signed else "")


def _chunk_head(line: bytes) -> tuple[int, str]:
    size, _, extension = line.partition(b";")
    if not _HEX.fullmatch(size):
        raise _malformed()
    if int(size, 16) > MAX_CHUNK_BYTES:
        raise S3Error("EntityTooLarge", f"A chunk is longer than {MAX_CHUNK_BYTES} bytes.")
    return int(size, 16), extension.removeprefix(b"chunk-signature=").decode("latin-1")


async def _read_trailer(body: Body, trailer: _Trailer, previous: str) -> None:
    text, named = b"", ""
    for _ in range(_TRAILER_LINES):
        line = await _line(body.content)
        if not line:
            break
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"x-amz-trailer-signature":
            named = value.strip().decode("latin-1")
            continue
        text += name.strip().lower() + b":" + value.strip() + b"\n"
        trailer.headers.append((name.strip().lower().decode("latin-1"), value.strip().decode("latin-1")))
    if previous:
        _check_signature(body.signer.trailer(previous, text), named)


def _check_signature(expected: str, named: str) -> None:
    if not equal_in_constant_time(expected, named):
        raise S3Error("SignatureDoesNotMatch", "The signature of a chunk of the body is missing or wrong.")


async def _line(content: StreamReader) -> bytes:
    try:
        return (await content.readline()).rstrip(b"\r\n")
    except ValueError:  # longer than the reader's limit
        raise _malformed() from None


def _malformed() -> S3Error:
    return S3Error("InvalidRequest", "The body is not framed as aws-chunked.")
