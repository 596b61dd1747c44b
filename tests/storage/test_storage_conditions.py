"""Conditions and headers: each is done, or answered as not implemented; none is dropped."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import product
from typing import Any
from xml.sax.saxutils import escape

import pytest

from pangeo_binder.storage.s3.routes import ROUTES
from tests.storage.process import Answer, Session, in_thread, refusal, send_raw

WRONG = {
    "ETag": ('"0123"', "if-match"),
    "Size": ("4", "x-amz-if-match-size"),
    "LastModifiedTime": ("Tue, 05 Mar 2019 10:00:00 GMT", "x-amz-if-match-last-modified-time"),
}


async def put(session: Session, name: str = "x") -> tuple[str, dict[str, str]]:
    """Write an object of 5 bytes; return its key and the right values of the conditions on it."""
    key = f"{session.prefix}/{name}"
    etag = (await session.do("put_object", Key=key, Body=b"12345"))["ETag"]
    modified = (await session.do("head_object", Key=key))["LastModified"]
    return key, {"ETag": etag, "Size": "5", "LastModifiedTime": format_datetime(modified.astimezone(UTC), usegmt=True)}


async def send(session: Session, method: str, path: str, body: bytes = b"", **headers: str) -> Answer:
    answer: Answer = await in_thread(lambda: send_raw(session.environment, method, path, body, **headers))
    return answer


async def bulk(session: Session, key: str, fields: dict[str, str]) -> bytes:
    inner = "".join(f"<{name}>{escape(value)}</{name}>" for name, value in fields.items())
    text = f"<Delete><Object><Key>{key}</Key>{inner}</Object></Delete>"
    return (await send(session, "POST", "/scratch?delete", text.encode())).body


@pytest.mark.parametrize("name", WRONG)
async def test_a_bulk_delete_with_a_condition_that_does_not_hold_deletes_nothing(session: Session, name: str) -> None:
    key, right = await put(session)
    assert b"<Code>PreconditionFailed</Code>" in await bulk(session, key, {name: WRONG[name][0]})
    assert b"<Code>InvalidArgument</Code>" in await bulk(session, key, {name: ""})
    assert b"<Code>NotImplemented</Code>" in await bulk(session, key, {"Unknown": "1"})
    assert await session.read(Key=key) == b"12345"
    assert b"<Deleted>" in await bulk(session, key, {name: right[name]})
    assert b"<Code>NoSuchKey</Code>" in await bulk(session, key, {name: right[name]})


@pytest.mark.parametrize("name", WRONG)
async def test_a_delete_with_a_condition_that_does_not_hold_deletes_nothing(session: Session, name: str) -> None:
    key, right = await put(session)
    wrong, header = WRONG[name]
    assert (await send(session, "DELETE", f"/scratch/{key}", **{header: wrong})).status == 412
    assert (await send(session, "DELETE", f"/scratch/{key}", **{header: " "})).status == 400
    assert await session.read(Key=key) == b"12345"
    assert (await send(session, "DELETE", f"/scratch/{key}", **{header: right[name]})).status == 204
    assert (await send(session, "DELETE", f"/scratch/{key}", **{header: right[name]})).status == 404


async def test_boto3_sends_the_conditions_of_a_delete(session: Session) -> None:
    key, right = await put(session)
    modified = (await session.do("head_object", Key=key))["LastModified"]
    for wrong in ({"ETag": '"0"'}, {"Size": 4}, {"LastModifiedTime": modified - timedelta(seconds=1)}):
        answer = await session.do("delete_objects", Delete={"Objects": [{"Key": key, **wrong}]})
        assert [error["Code"] for error in answer["Errors"]] == ["PreconditionFailed"]
    good = {"Key": key, "ETag": right["ETag"], "Size": 5, "LastModifiedTime": modified}
    answer = await session.do("delete_objects", Delete={"Objects": [good]})
    assert [item["Key"] for item in answer["Deleted"]] == [key]


async def test_malformed_conditions_of_a_delete_are_refused(session: Session) -> None:
    key, _ = await put(session)
    for header, value in (("x-amz-if-match-size", "five"), ("x-amz-if-match-last-modified-time", "yesterday")):
        assert (await send(session, "DELETE", f"/scratch/{key}", **{header: value})).status == 400
    assert await session.read(Key=key) == b"12345"


NOW = datetime.now(UTC)
SOURCE_CONDITIONS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"CopySourceIfMatch": '"0"'}, {"CopySourceIfMatch": "*"}),
    ({"CopySourceIfNoneMatch": "*"}, {"CopySourceIfNoneMatch": '"0"'}),
    (
        {"CopySourceIfModifiedSince": NOW + timedelta(hours=1)},
        {"CopySourceIfModifiedSince": NOW - timedelta(hours=1)},
    ),
    (
        {"CopySourceIfUnmodifiedSince": NOW - timedelta(hours=1)},
        {"CopySourceIfUnmodifiedSince": NOW + timedelta(hours=1)},
    ),
]


@pytest.mark.parametrize(("wrong", "right"), SOURCE_CONDITIONS)
async def test_copies_check_every_condition_on_their_source(
    session: Session, wrong: dict[str, Any], right: dict[str, Any]
) -> None:
    key, _ = await put(session)
    target = {"Key": f"{key}2", "CopySource": {"Bucket": "scratch", "Key": key}}
    assert await refusal(session, "copy_object", **target, **wrong) == ("PreconditionFailed", 412)
    upload = (await session.do("create_multipart_upload", Key=f"{key}2"))["UploadId"]
    part = target | {"UploadId": upload, "PartNumber": 1}
    assert await refusal(session, "upload_part_copy", **part, **wrong) == ("PreconditionFailed", 412)
    await session.do("upload_part_copy", **part, **right)
    await session.do("copy_object", **target, **right)
    assert await session.read(Key=f"{key}2") == b"12345"


async def test_copies_check_conditions_on_their_target(session: Session) -> None:
    key, right = await put(session)
    source = {"CopySource": {"Bucket": "scratch", "Key": key}}
    assert (await refusal(session, "copy_object", Key=key, **source, IfNoneMatch="*"))[1] == 412
    assert (await refusal(session, "copy_object", Key=key, **source, IfMatch='"0"'))[1] == 412
    await session.do("copy_object", Key=key, **source, IfMatch=right["ETag"])


async def test_complete_checks_its_conditions_and_keeps_the_parts(session: Session) -> None:
    key, right = await put(session)
    upload = (await session.do("create_multipart_upload", Key=key))["UploadId"]
    part = await session.do("upload_part", Key=key, UploadId=upload, PartNumber=1, Body=b"new")
    whole = {"UploadId": upload, "MultipartUpload": {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}}
    for wrong in ({"IfNoneMatch": "*"}, {"IfMatch": '"0"'}):
        assert (await refusal(session, "complete_multipart_upload", Key=key, **whole, **wrong))[1] == 412
    assert await session.read(Key=key) == b"12345"
    await session.do("complete_multipart_upload", Key=key, **whole, IfMatch=right["ETag"])
    assert await session.read(Key=key) == b"new"


TARGETS = {
    "service": "/",
    "bucket": "/scratch",
    "object": "/scratch/{prefix}/x",
}
UNKNOWN = ["x-amz-new-feature", "x-amz-if-new-condition", "if-new", "x-amz-expected-bucket-owner", "x-amz-tagging"]


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.operation)
async def test_no_operation_ignores_an_unknown_header_or_condition(session: Session, route: Any) -> None:
    key, _ = await put(session)
    query = "&".join(f"{name}=1" for name in sorted(route.needs))
    path = TARGETS[route.level].format(prefix=session.prefix) + (f"?{query}" if query else "")
    copies = {"x-amz-copy-source": f"scratch/{key}"} if route.copies else {}
    conditions = ("if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "x-amz-if-match-size")
    for name in (*UNKNOWN, *(set(conditions) - route.headers)):
        answer = await send(session, route.method, path, **copies, **{name: "1"})
        assert answer.status == 501, (name, answer)
        if route.method != "HEAD":
            assert name.encode() in answer.body
    assert await session.read(Key=key) == b"12345"


async def test_values_of_known_headers_that_the_store_cannot_do_are_refused(session: Session) -> None:
    key, _ = await put(session)
    for name, value in product(("x-amz-acl", "x-amz-storage-class"), ("public-read", "GLACIER", "")):
        assert (await send(session, "PUT", f"/scratch/{key}", b"new", **{name: value})).status == 501
    assert (await send(session, "PUT", f"/scratch/{key}", b"new", content_range="bytes 0-2/5")).status == 501
    assert await session.read(Key=key) == b"12345"


async def test_unknown_and_repeated_parameters_are_refused(session: Session) -> None:
    key, _ = await put(session)
    for query in ("X-Amz-New=1", "x-amz-acl=private", "response-content-type=a", "partNumber=1"):
        assert (await send(session, "GET", f"/scratch/{key}?{query}")).status == 501
    assert (await send(session, "GET", f"/scratch?prefix={session.prefix}&prefix=b")).status == 400


async def test_if_range_never_joins_two_versions(session: Session) -> None:
    key, _ = await put(session)
    answer = await send(session, "GET", f"/scratch/{key}", range="bytes=1-2", if_range='"0"')
    assert (answer.status, answer.body) == (200, b"12345")


async def test_headers_of_real_clients_are_accepted(session: Session) -> None:
    key, _ = await put(session)
    sent = {"amz-sdk-invocation-id": "1", "amz-sdk-request": "attempt=1", "x-amz-user-agent": "aws-sdk-js/3"}
    about = {"x-amz-acl": "private", "x-amz-storage-class": "STANDARD", "x-amz-meta-mtime": "1", "cache-control": "no"}
    assert (await send(session, "PUT", f"/scratch/{key}?x-id=PutObject", b"new", **sent, **about)).status == 200
    assert (await send(session, "GET", f"/scratch/{key}", **sent, x_amz_checksum_mode="ENABLED")).body == b"new"
    owners = await session.do("list_objects_v2", Prefix=f"{session.prefix}/", FetchOwner=True)
    assert owners["Contents"][0]["Owner"]["ID"] == session.prefix
