"""Bodies framed as aws-chunked, signed and unsigned, with checksums in headers and trailers, valid and invalid."""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Callable

import pytest
from awscrt import checksums as crt
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from pangeo_binder.storage.s3 import sigv4
from tests.storage.process import Answer, Session, Storage, in_thread, send_unsigned

DATA = bytes(range(256)) * 1000
Change = Callable[[bytes], bytes]


def b64(value: int, size: int) -> str:
    return base64.b64encode(value.to_bytes(size, "big")).decode()


CHECKSUMS = {
    "crc32": b64(zlib.crc32(DATA), 4),
    "crc32c": b64(crt.crc32c(DATA), 4),
    "crc64nvme": b64(crt.crc64nvme(DATA), 8),
    "sha1": base64.b64encode(hashlib.sha1(DATA).digest()).decode(),
    "sha256": base64.b64encode(hashlib.sha256(DATA).digest()).decode(),
}


class FramedAuth(S3SigV4Auth):
    """A signer that signs the form of the body instead of its hash."""

    def payload(self, request: AWSRequest) -> str:
        return str(request.headers["x-amz-content-sha256"])

    def _modify_request_before_signing(self, request: AWSRequest) -> None:
        form = request.headers["x-amz-content-sha256"]
        super()._modify_request_before_signing(request)
        del request.headers["x-amz-content-sha256"]
        request.headers["x-amz-content-sha256"] = form


class Chunked:
    """A PUT with a body framed as by the AWS SDKs."""

    def __init__(self, session: Session, form: str, trailer: str = "", chunk: int = 65536) -> None:
        self.environment, self.form, self.trailer, self.chunk = session.environment, form, trailer, chunk
        self.path = f"/scratch/{session.prefix}/x"

    def send(self, change: Change = lambda framed: framed, size: int = len(DATA), **more: str) -> Answer:
        headers = {"x-amz-content-sha256": self.form, "content-encoding": "aws-chunked"}
        headers |= {"x-amz-decoded-content-length": str(size)} | more
        if self.trailer:
            headers["x-amz-trailer"] = self.trailer.partition(":")[0]
        names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
        keys = Credentials(*(self.environment[name] for name in names))
        request = AWSRequest("PUT", self.environment["AWS_ENDPOINT_URL"] + self.path, headers=headers)
        FramedAuth(keys, "s3", "us-east-1").add_auth(request)
        signed = dict(request.headers.items())
        lowered = tuple((name.lower(), value) for name, value in signed.items())
        claim = sigv4.read_claim(sigv4.SignedRequest("PUT", self.path, "", lowered))
        signer = sigv4.ChunkSigner(
            sigv4.signing_key(self.environment["AWS_SECRET_ACCESS_KEY"], claim),
            claim.timestamp, claim.credential_scope, claim.signature,
        )  # fmt: skip
        return send_unsigned(self.environment, "PUT", self.path, change(self.frame(signer)), **signed)

    def frame(self, signer: sigv4.ChunkSigner) -> bytes:
        framed, signature = b"", signer.seed
        pieces = [DATA[start : start + self.chunk] for start in range(0, len(DATA), self.chunk)]
        for piece in (*pieces, b""):
            signature = signer.chunk(signature, hashlib.sha256(piece).hexdigest())
            extension = f";chunk-signature={signature}" if self.form != sigv4.STREAMING_UNSIGNED_TRAILER else ""
            framed += f"{len(piece):x}{extension}\r\n".encode() + piece + (b"\r\n" if piece else b"")
        if self.trailer:
            framed += f"{self.trailer}\r\n".encode()
        if self.form == sigv4.STREAMING_SIGNED_TRAILER:
            seal = signer.trailer(signature, f"{self.trailer}\n".encode())
            framed += f"x-amz-trailer-signature:{seal}\r\n".encode()
        return framed + b"\r\n"


async def test_a_body_of_signed_chunks_is_stored(session: Session) -> None:
    answer = await in_thread(Chunked(session, sigv4.STREAMING_SIGNED).send)
    assert answer.status == 200, answer
    assert await session.read(Key=f"{session.prefix}/x") == DATA


@pytest.mark.parametrize("name", CHECKSUMS)
@pytest.mark.parametrize("form", [sigv4.STREAMING_SIGNED_TRAILER, sigv4.STREAMING_UNSIGNED_TRAILER])
async def test_trailing_checksums_are_checked(session: Session, form: str, name: str) -> None:
    answer = await in_thread(Chunked(session, form, f"x-amz-checksum-{name}:{CHECKSUMS[name]}").send)
    assert answer.status == 200, answer
    wrong = Chunked(session, form, f"x-amz-checksum-{name}:{b64(1, 4)}")
    assert b"<Code>BadDigest</Code>" in (await in_thread(wrong.send)).body


@pytest.mark.parametrize("name", CHECKSUMS)
async def test_checksums_in_headers_are_checked(session: Session, name: str) -> None:
    field = f"Checksum{name.upper()}"
    key = {"Key": f"{session.prefix}/x"}
    await session.do("put_object", **key, Body=DATA, **{field: CHECKSUMS[name]})
    wrong = Chunked(session, sigv4.STREAMING_SIGNED)
    answer = await in_thread(lambda: wrong.send(**{f"x-amz-checksum-{name}": "AAAA"}))
    assert b"<Code>BadDigest</Code>" in answer.body


CHANGES: dict[str, tuple[Change, str]] = {
    "a changed byte": (lambda framed: framed.replace(b"\x01\x02\x03", b"\x01\x02\x04", 1), "SignatureDoesNotMatch"),
    "a changed signature": (lambda framed: framed.replace(b"signature=", b"signature=0", 1), "SignatureDoesNotMatch"),
    "a missing signature": (lambda framed: framed.replace(b";chunk-signature=", b";x=", 1), "SignatureDoesNotMatch"),
    "no frame": (lambda framed: b"hello world" * 1000, "InvalidRequest"),
    "a signed size": (lambda framed: b"-" + framed, "InvalidRequest"),
    "a huge chunk": (lambda framed: b"fffffff;" + framed, "EntityTooLarge"),
    "an endless line": (lambda framed: b"1" * 300_000, "InvalidRequest"),
    "half of it": (lambda framed: framed[: len(framed) // 2], "IncompleteBody"),
    "nothing": (lambda framed: b"", "InvalidRequest"),
}


@pytest.mark.parametrize("change", CHANGES)
async def test_broken_frames_are_refused(session: Session, storage: Storage, change: str) -> None:
    broken, code = CHANGES[change]
    answer = await in_thread(lambda: Chunked(session, sigv4.STREAMING_SIGNED).send(broken))
    assert f"<Code>{code}</Code>".encode() in answer.body, answer
    launch = storage.runner.service.table.get(session.prefix)
    assert launch is not None
    assert (launch.usage.stored, launch.usage.reserved) == (0, 0)


@pytest.mark.parametrize("size", [0, 1, len(DATA) - 1, len(DATA) + 1])
async def test_a_body_must_have_its_declared_length(session: Session, size: int) -> None:
    answer = await in_thread(lambda: Chunked(session, sigv4.STREAMING_SIGNED).send(size=size))
    assert b"<Code>IncompleteBody</Code>" in answer.body


async def test_a_trailer_after_signed_chunks_must_be_signed(session: Session) -> None:
    chunked = Chunked(session, sigv4.STREAMING_SIGNED_TRAILER, f"x-amz-checksum-crc32:{CHECKSUMS['crc32']}")
    answer = await in_thread(lambda: chunked.send(lambda framed: framed.replace(b"trailer-signature:", b"trailer-x:")))
    assert b"<Code>SignatureDoesNotMatch</Code>" in answer.body


async def test_a_declared_trailer_must_be_sent(session: Session) -> None:
    chunked = Chunked(session, sigv4.STREAMING_UNSIGNED_TRAILER, f"x-amz-checksum-crc32:{CHECKSUMS['crc32']}")
    answer = await in_thread(lambda: chunked.send(lambda framed: framed.replace(b"x-amz-checksum", b"x-amz-other")))
    assert b"<Code>BadDigest</Code>" in answer.body


async def test_a_signed_body_cannot_be_replaced(session: Session) -> None:
    headers = {"x-amz-content-sha256": hashlib.sha256(b"good").hexdigest()}
    keys = [session.environment[n] for n in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")]
    path = f"/scratch/{session.prefix}/x"
    request = AWSRequest("PUT", session.environment["AWS_ENDPOINT_URL"] + path, headers=headers, data=b"good")
    S3SigV4Auth(Credentials(*keys), "s3", "us-east-1").add_auth(request)
    evil = await in_thread(
        lambda: send_unsigned(session.environment, "PUT", path, b"evil", **dict(request.headers.items()))
    )
    assert b"<Code>XAmzContentSHA256Mismatch</Code>" in evil.body
