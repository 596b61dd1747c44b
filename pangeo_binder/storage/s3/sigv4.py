"""Verifies AWS Signature Version 4: in the Authorization header, in a presigned URL, and in each chunk of a body.

Format: https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-authenticating-requests.html. Pure: its input is the
request and the time. Stricter than S3: a session token is required and every `x-amz-*` header must be signed. Not for
authorization (`scope`) nor for revocation (`launches`).
"""

from __future__ import annotations

import calendar
import hashlib
import hmac
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import quote, unquote_to_bytes

ALGORITHM = "AWS4-HMAC-SHA256"
SKEW_SECONDS = 15 * 60
MAX_PRESIGN_SECONDS = 7 * 24 * 3600
UNSIGNED_PAYLOAD = "UNSIGNED-PAYLOAD"
STREAMING_SIGNED = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
STREAMING_SIGNED_TRAILER = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
STREAMING_UNSIGNED_TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
STREAMING = (STREAMING_SIGNED, STREAMING_SIGNED_TRAILER, STREAMING_UNSIGNED_TRAILER)
_EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()
_HEX = set("0123456789abcdef")


class SignatureError(Exception):
    """A missing or invalid signature: `code` is S3's error code, the message a sentence."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """A request as received."""

    method: str
    path: str
    """Still percent-encoded, without the query."""
    query: str
    """Still percent-encoded, without the question mark."""
    headers: tuple[tuple[str, str], ...]
    """Names in lower case, in the received order."""

    def header(self, name: str) -> str:
        """Return the values of the header `name`, joined as S3 signs them; empty if absent."""
        return ",".join(" ".join(value.split()) for key, value in self.headers if key == name)


@dataclass(frozen=True, slots=True)
class Claim:
    """A request's statements about its own signature, not yet verified."""

    access_key_id: str
    date: str
    region: str
    service: str
    signed_headers: tuple[str, ...]
    signature: str
    timestamp: str
    session_token: str
    payload_hash: str
    presigned: bool = False
    expires_seconds: int = 0

    @property
    def credential_scope(self) -> str:
        """The part of the string to sign that contains day, region and service."""
        return f"{self.date}/{self.region}/{self.service}/aws4_request"

    def __repr__(self) -> str:
        return f"Claim({self.access_key_id})"


@dataclass(frozen=True, slots=True)
class ChunkSigner:
    """Signer of the chunks of a verified request's body."""

    key: bytes
    timestamp: str
    credential_scope: str
    seed: str

    def __repr__(self) -> str:
        return "ChunkSigner()"

    def chunk(self, previous: str, chunk_sha256: str) -> str:
        """Return the signature of the chunk that follows the signature `previous` (for the first chunk: `seed`)."""
        lines = (f"{ALGORITHM}-PAYLOAD", self.timestamp, self.credential_scope, previous, _EMPTY_SHA256, chunk_sha256)
        return _hex_hmac(self.key, "\n".join(lines))

    def trailer(self, previous: str, trailer: bytes) -> str:
        """Return the signature of the trailing headers, given as `name:value\\n` lines."""
        digest = hashlib.sha256(trailer).hexdigest()
        lines = (f"{ALGORITHM}-TRAILER", self.timestamp, self.credential_scope, previous, digest)
        return _hex_hmac(self.key, "\n".join(lines))


def equal_in_constant_time(one: str, other: str) -> bool:
    """Return whether two texts are equal, in a time that does not depend on where they differ."""
    return hmac.compare_digest(one.encode("utf-8", "surrogateescape"), other.encode("utf-8", "surrogateescape"))


def parse_query(query: str) -> tuple[tuple[str, str], ...]:
    """Return the decoded pairs of a raw query; a plus is not a space, as in S3 clients.

    Raises SignatureError if it is not UTF-8.
    """
    pairs = (part.partition("=") for part in query.split("&") if part)
    try:
        return tuple((_unquote(name), _unquote(value)) for name, _, value in pairs)
    except UnicodeDecodeError:
        raise SignatureError("InvalidArgument", "The query is not valid UTF-8.") from None


def _unquote(text: str) -> str:
    return unquote_to_bytes(text.encode("utf-8", "surrogateescape")).decode()


def read_claim(request: SignedRequest) -> Claim:
    """Return the signature claim of `request`. Raises SignatureError if it has none or it is malformed."""
    authorization = request.header("authorization")
    query = dict(parse_query(request.query))
    if authorization.startswith("AWS ") or "AWSAccessKeyId" in query:
        raise SignatureError(
            "InvalidRequest",
            "Signature version 2 is not supported; use version 4 (AWS_CONFIG_FILE sets it for boto3 and the AWS CLI).",
        )
    if authorization.startswith(ALGORITHM):
        return _header_claim(authorization, request)
    if query.get("X-Amz-Algorithm") == ALGORITHM:
        return _query_claim(query)
    raise SignatureError(
        "AccessDenied",
        "Unsigned requests are refused. Use the credentials in this session's environment (not `anon=True`).",
    )


def _header_claim(authorization: str, request: SignedRequest) -> Claim:
    fields = dict(part.strip().partition("=")[::2] for part in authorization[len(ALGORITHM) :].split(","))
    payload_hash = request.header("x-amz-content-sha256")
    known = payload_hash in (UNSIGNED_PAYLOAD, *STREAMING) or (len(payload_hash) == 64 and set(payload_hash) <= _HEX)
    if not known:
        raise SignatureError("InvalidRequest", "The header x-amz-content-sha256 is missing or not supported.")
    return _claim(
        fields.get("Credential", ""),
        fields.get("SignedHeaders", ""),
        signature=fields.get("Signature", ""),
        timestamp=request.header("x-amz-date"),
        session_token=request.header("x-amz-security-token"),
        payload_hash=payload_hash,
    )


def _query_claim(query: Mapping[str, str]) -> Claim:
    seconds = query.get("X-Amz-Expires", "")
    if not seconds.isdecimal() or not seconds.isascii() or not 1 <= int(seconds[:9]) <= MAX_PRESIGN_SECONDS:
        raise SignatureError("AuthorizationQueryParametersError", "X-Amz-Expires must be 1 to 604800 seconds.")
    return _claim(
        query.get("X-Amz-Credential", ""),
        query.get("X-Amz-SignedHeaders", ""),
        signature=query.get("X-Amz-Signature", ""),
        timestamp=query.get("X-Amz-Date", ""),
        session_token=query.get("X-Amz-Security-Token", ""),
        payload_hash=UNSIGNED_PAYLOAD,
        expires_seconds=int(seconds[:9]),
    )


def _claim(
    credential: str,
    signed_headers: str,
    *,
    signature: str,
    timestamp: str,
    session_token: str,
    payload_hash: str,
    expires_seconds: int = 0,
) -> Claim:
    parts = credential.split("/")
    if len(parts) != 5 or parts[3:] != ["s3", "aws4_request"] or not signature or not signed_headers:
        raise SignatureError("AuthorizationHeaderMalformed", "The signature is malformed or not for S3.")
    return Claim(
        access_key_id=parts[0],
        date=parts[1],
        region=parts[2],
        service=parts[3],
        signed_headers=tuple(signed_headers.split(";")),
        signature=signature,
        timestamp=timestamp,
        session_token=session_token,
        payload_hash=payload_hash,
        presigned=expires_seconds > 0,
        expires_seconds=expires_seconds,
    )


def verify(request: SignedRequest, claim: Claim, secret: str, session_token: str, now: float) -> ChunkSigner:
    """Return the signer of the body's chunks if `request` was signed with `secret` and `session_token`.

    `now` is in seconds since the epoch. Raises SignatureError otherwise.
    """
    _check_time(claim, now)
    _check_headers(request, claim)
    key = signing_key(secret, claim)
    lines = (ALGORITHM, claim.timestamp, claim.credential_scope, _sha256(canonical_request(request, claim)))
    expected = _hex_hmac(key, "\n".join(lines))
    good_token = equal_in_constant_time(claim.session_token, session_token)
    if not equal_in_constant_time(expected, claim.signature):
        raise SignatureError("SignatureDoesNotMatch", "The signature does not match. Check that the keys are complete.")
    if not good_token:
        raise SignatureError("InvalidToken", "The session token is missing or does not belong to these keys.")
    return ChunkSigner(key, claim.timestamp, claim.credential_scope, claim.signature)


def _check_time(claim: Claim, now: float) -> None:
    try:
        signed_at = calendar.timegm(time.strptime(claim.timestamp, "%Y%m%dT%H%M%SZ"))
    except ValueError:
        raise SignatureError("AccessDenied", "The request has no valid X-Amz-Date.") from None
    if claim.timestamp[:8] != claim.date:
        raise SignatureError("AuthorizationHeaderMalformed", "The signature's date is not the request's date.")
    if signed_at > now + SKEW_SECONDS:
        raise SignatureError("RequestTimeTooSkewed", "The request was signed in the future; check the clock.")
    if claim.presigned and now > signed_at + claim.expires_seconds:
        raise SignatureError("AccessDenied", "This presigned link has expired.")
    if not claim.presigned and now > signed_at + SKEW_SECONDS:
        raise SignatureError("RequestTimeTooSkewed", "The request was signed over 15 minutes ago; check the clock.")


def _check_headers(request: SignedRequest, claim: Claim) -> None:
    must = {"host"} | {name for name, _ in request.headers if name.startswith("x-amz-")}
    missing = sorted(must - set(claim.signed_headers))
    if missing:
        raise SignatureError("AccessDenied", f"These headers must be signed but are not: {', '.join(missing)}.")


def signing_key(secret: str, claim: Claim) -> bytes:
    """Return the signing key for the claim's day, region and service."""
    key = f"AWS4{secret}".encode()
    for part in (claim.date, claim.region, claim.service, "aws4_request"):
        key = hmac.new(key, part.encode("utf-8", "surrogateescape"), hashlib.sha256).digest()
    return key


def canonical_request(request: SignedRequest, claim: Claim) -> str:
    """Return the canonical request, whose hash is signed."""
    names = claim.signed_headers
    headers = "".join(f"{name}:{request.header(name)}\n" for name in names)
    query = _canonical_query(request.query)
    path = _encode(unquote_to_bytes(request.path.encode("utf-8", "surrogateescape")), "/")
    return "\n".join((request.method, path, query, headers, ";".join(names), claim.payload_hash))


def _canonical_query(query: str) -> str:
    pairs: Iterable[tuple[str, str]] = parse_query(query)
    encoded = sorted((_encode(name), _encode(value)) for name, value in pairs if name != "X-Amz-Signature")
    return "&".join(f"{name}={value}" for name, value in encoded)


def _encode(text: str | bytes, safe: str = "") -> str:
    return quote(text, safe=safe + "-_.~")


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def _hex_hmac(key: bytes, text: str) -> str:
    return hmac.new(key, text.encode("utf-8", "surrogateescape"), hashlib.sha256).hexdigest()
