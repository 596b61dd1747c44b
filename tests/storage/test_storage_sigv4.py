"""Signatures: requests signed by botocore are accepted; requests changed after signing are refused."""

from __future__ import annotations

import calendar
import time
from dataclasses import replace
from urllib.parse import quote, urlsplit

import pytest
from botocore.auth import HmacV1QueryAuth, S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from pangeo_binder.storage.s3 import sigv4
from pangeo_binder.storage.s3.sigv4 import SignatureError, SignedRequest

KEYS = Credentials("AKID", "the-secret", "the-token")
HOST = "http://127.0.0.1:9100"


def wire(request: AWSRequest) -> SignedRequest:
    prepared = request.prepare()
    url = urlsplit(prepared.url)
    headers = [
        (name.lower(), value.decode() if isinstance(value, bytes) else value)
        for name, value in prepared.headers.items()
    ]
    headers += [] if "host" in dict(headers) else [("host", url.netloc)]
    return SignedRequest(prepared.method, url.path, url.query, tuple(headers))


def signed(path: str = "/scratch/a%20b", query: str = "", method: str = "PUT", **headers: str) -> SignedRequest:
    request = AWSRequest(method, f"{HOST}{path}?{query}", headers=headers, data=b"body")
    S3SigV4Auth(KEYS, "s3", "us-east-1").add_auth(request)
    return wire(request)


def presigned(seconds: int = 60, path: str = "/scratch/a") -> SignedRequest:
    request = AWSRequest("GET", HOST + path)
    S3SigV4QueryAuth(KEYS, "s3", "us-east-1", seconds).add_auth(request)
    return wire(request)


def verify(
    request: SignedRequest, now: float | None = None, secret: str = "the-secret", token: str = "the-token"
) -> None:
    sigv4.verify(request, sigv4.read_claim(request), secret, token, time.time() if now is None else now)


def code_of(request: SignedRequest, **arguments: object) -> str:
    with pytest.raises(SignatureError) as error:
        verify(request, **arguments)  # type: ignore[arg-type]
    assert "the-secret" not in str(error.value)
    return error.value.code


def test_requests_signed_by_botocore_are_accepted() -> None:
    verify(signed())
    verify(signed(query="list-type=2&prefix=a%2Fb%20c&delimiter=%2F", method="GET"))
    verify(signed(**{"x-amz-copy-source": "/b/k", "content-type": "text/plain;  charset=x"}))
    verify(presigned())


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30))
def test_requests_with_any_key_and_query_are_accepted(text: str) -> None:
    verify(signed(path="/scratch/" + quote(text, safe="/~"), query="prefix=" + quote(text, safe="-_.~"), method="GET"))


def test_requests_changed_after_signing_are_refused() -> None:
    good = signed()
    changes = {"method": "GET", "path": "/scratch/other", "query": "acl"}
    for name, value in changes.items():
        assert code_of(replace(good, **{name: value})) == "SignatureDoesNotMatch"
    moved = tuple((name, "evil:80" if name == "host" else value) for name, value in good.headers)
    assert code_of(replace(good, headers=moved)) == "SignatureDoesNotMatch"


def test_another_secret_or_session_token_is_refused() -> None:
    assert code_of(signed(), secret="another") == "SignatureDoesNotMatch"
    assert code_of(signed(), token="another") == "InvalidToken"


def test_keys_without_their_session_token_are_refused() -> None:
    request = AWSRequest("GET", f"{HOST}/scratch/a")
    S3SigV4Auth(Credentials("AKID", "the-secret"), "s3", "us-east-1").add_auth(request)
    assert code_of(wire(request)) == "InvalidToken"


def test_unsigned_amz_headers_are_refused() -> None:
    for good in (signed(), presigned()):
        added = replace(good, headers=(*good.headers, ("x-amz-copy-source", "/scratch/other")))
        assert code_of(added) == "AccessDenied"


def test_requests_are_valid_for_fifteen_minutes() -> None:
    now = time.time()
    verify(signed(), now=now + 890)
    assert code_of(signed(), now=now + 910) == "RequestTimeTooSkewed"
    assert code_of(signed(), now=now - 910) == "RequestTimeTooSkewed"


def test_presigned_links_expire_at_their_time() -> None:
    verify(presigned(3600), now=time.time() + 3500)
    assert code_of(presigned(3600), now=time.time() + 3700) == "AccessDenied"
    assert code_of(presigned(8 * 24 * 3600)) == "AuthorizationQueryParametersError"


def test_version_2_is_refused_with_a_hint() -> None:
    request = AWSRequest("GET", f"{HOST}/scratch/a")
    HmacV1QueryAuth(KEYS).add_auth(request)
    for old in (wire(request), SignedRequest("GET", "/", "", (("authorization", "AWS AKID:sig"), ("host", "h")))):
        with pytest.raises(SignatureError, match="version 2 is not supported"):
            sigv4.read_claim(old)


BROKEN = [
    "",
    "Basic abc",
    "AWS4-HMAC-SHA256",
    "AWS4-HMAC-SHA256 Credential=a/b/c, SignedHeaders=host, Signature=00",
    "AWS4-HMAC-SHA256 Credential=AKID/20260101/us-east-1/sts/aws4_request, SignedHeaders=host, Signature=0",
]


@pytest.mark.parametrize("authorization", BROKEN)
def test_malformed_authorizations_are_refused(authorization: str) -> None:
    headers = (("authorization", authorization), ("host", "h"), ("x-amz-content-sha256", "UNSIGNED-PAYLOAD"))
    with pytest.raises(SignatureError):
        sigv4.read_claim(SignedRequest("GET", "/", "", headers))


def test_an_unsupported_payload_hash_is_refused() -> None:
    good = signed()
    headers = tuple((name, "0" * 63 if name == "x-amz-content-sha256" else value) for name, value in good.headers)
    assert code_of(replace(good, headers=headers)) == "InvalidRequest"


def test_the_example_of_aws_for_signed_chunks() -> None:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming.html"""
    headers = {
        "host": "s3.amazonaws.com",
        "x-amz-date": "20130524T000000Z",
        "x-amz-storage-class": "REDUCED_REDUNDANCY",
        "x-amz-content-sha256": sigv4.STREAMING_SIGNED,
        "content-encoding": "aws-chunked",
        "x-amz-decoded-content-length": "66560",
        "content-length": "66824",
        "authorization": "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,"
        "SignedHeaders=content-encoding;content-length;host;x-amz-content-sha256;x-amz-date;"
        "x-amz-decoded-content-length;x-amz-storage-class,"
        "Signature=4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9",
    }
    request = SignedRequest("PUT", "/examplebucket/chunkObject.txt", "", tuple(headers.items()))
    now = calendar.timegm((2013, 5, 24, 0, 0, 1))
    signer = sigv4.verify(request, sigv4.read_claim(request), "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "", now)
    sha = "bf718b6f653bebc184e1479f1935b8da974d701b893afcf49e701f3e2f9f9c5a"
    first = signer.chunk(signer.seed, sha)
    assert first == "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648"
