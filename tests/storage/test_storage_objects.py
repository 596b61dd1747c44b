"""Single objects, multipart uploads and listings through a real S3 client."""

from __future__ import annotations

import asyncio
import gzip
import os
from typing import Any

import pytest

from pangeo_binder.storage.s3.objects import parse_span
from tests.storage.process import Session, Storage, in_thread, refusal

KEYS = ["plain.txt", "a b/c+d%20.nc", "ünïcode/日本.zarr", "#?&*~{}:'()!@$,;=.txt", "x#1", "deep/" * 20 + "x"]
MEBI = 1024 * 1024


@pytest.mark.parametrize("name", KEYS)
async def test_a_key_is_listed_and_read_unchanged(session: Session, name: str) -> None:
    key = f"{session.prefix}/{name}"
    await session.do("put_object", Key=key, Body=name.encode())
    got = await session.do("head_object", Key=key)
    assert await session.read(Key=key) == name.encode()
    listed = await session.do("list_objects_v2", Prefix=f"{session.prefix}/")
    assert [item["Key"] for item in listed["Contents"]] == [key]
    assert listed["Contents"][0]["ETag"] == got["ETag"]
    await session.do("delete_object", Key=key)
    assert await refusal(session, "head_object", Key=key) == ("404", 404)
    assert await refusal(session, "get_object", Key=key) == ("NoSuchKey", 404)


async def test_ranges_are_read_exactly(session: Session) -> None:
    key, data = f"{session.prefix}/x", os.urandom(3 * MEBI + 17)
    await session.do("put_object", Key=key, Body=data)
    for text, piece in {
        "bytes=0-0": data[:1],
        "bytes=5-2097200": data[5:2097201],
        "bytes=3145740-": data[3145740:],
        "bytes=-9": data[-9:],
        "bytes=10-99999999": data[10:],
    }.items():
        assert await session.read(Key=key, Range=text) == piece
        got = await session.do("head_object", Key=key, Range=text)
        assert got["ResponseMetadata"]["HTTPStatusCode"] == 206
        assert got["ContentRange"].endswith(f"/{len(data)}")
    assert await refusal(session, "get_object", Key=key, Range="bytes=99999999-") == ("InvalidRange", 416)


@pytest.mark.parametrize("text", ["", "bytes=-", "bytes=5-2", "lines=1-2", "bytes=1-2,4-5", "bytes=a-b"])
def test_an_invalid_range_means_the_whole_object(text: str) -> None:
    assert parse_span(text) is None


async def test_conditions_on_reads(session: Session) -> None:
    key = f"{session.prefix}/x"
    etag = (await session.do("put_object", Key=key, Body=b"1"))["ETag"]
    await session.do("get_object", Key=key, IfMatch=etag)
    assert (await refusal(session, "get_object", Key=key, IfMatch='"other"'))[1] == 412
    assert (await refusal(session, "get_object", Key=key, IfNoneMatch=etag))[1] == 304
    assert (await refusal(session, "head_object", Key=key, IfNoneMatch=etag))[1] == 304


async def test_compressed_content_is_stored_unchanged(session: Session) -> None:
    data = gzip.compress(b"text" * 1000)
    await session.do("put_object", Key=f"{session.prefix}/x.gz", Body=data, ContentEncoding="gzip")
    assert await session.read(Key=f"{session.prefix}/x.gz") == data


async def test_create_only_and_compare_and_swap_writes(session: Session) -> None:
    key = f"{session.prefix}/ref"
    etag = (await session.do("put_object", Key=key, Body=b"1", IfNoneMatch="*"))["ETag"]
    assert await refusal(session, "put_object", Key=key, Body=b"2", IfNoneMatch="*") == ("PreconditionFailed", 412)
    newer = (await session.do("put_object", Key=key, Body=b"2", IfMatch=etag))["ETag"]
    assert newer != etag
    assert await refusal(session, "put_object", Key=key, Body=b"3", IfMatch=etag) == ("PreconditionFailed", 412)
    assert (await refusal(session, "put_object", Key=f"{key}2", Body=b"3", IfMatch=etag))[1] == 404
    assert await session.read(Key=key) == b"2"


async def test_one_of_many_concurrent_creates_succeeds(session: Session) -> None:
    puts = [session.do("put_object", Key=f"{session.prefix}/r", Body=b"%d" % n, IfNoneMatch="*") for n in range(8)]
    results = await asyncio.gather(*puts, return_exceptions=True)
    assert sum(isinstance(result, dict) for result in results) == 1


async def test_a_key_cannot_be_an_object_and_a_prefix(session: Session) -> None:
    await session.do("put_object", Key=f"{session.prefix}/a/b", Body=b"1")
    assert (await refusal(session, "put_object", Key=f"{session.prefix}/a", Body=b"1"))[0] == "InvalidArgument"
    assert (await refusal(session, "put_object", Key=f"{session.prefix}/a/b/c", Body=b"1"))[0] == "InvalidArgument"
    await session.do("delete_object", Key=f"{session.prefix}/a")
    await session.do("delete_object", Key=f"{session.prefix}/a/b")
    await session.do("put_object", Key=f"{session.prefix}/a", Body=b"no longer a prefix")


async def test_a_copy_needs_read_access_to_its_source(session: Session, storage: Storage) -> None:
    key = f"{session.prefix}/copy"
    await session.do("copy_object", Key=key, CopySource={"Bucket": "cmip6", "Key": "tas/1.bin"})
    assert await session.read(Key=key) == b"warm" * 1000
    await session.do("copy_object", Key=f"{key}2", CopySource={"Bucket": "scratch", "Key": key})
    for bucket, source in (("scratch", "b23456789012/x"), ("private", "x"), ("scratch", f"{session.prefix}/../x")):
        code = await refusal(session, "copy_object", Key=key, CopySource={"Bucket": bucket, "Key": source})
        assert code[1] in (400, 403)
    own = {"Bucket": "scratch", "Key": key}
    changed = await refusal(session, "copy_object", Key=f"{key}3", CopySource=own, CopySourceIfMatch='"other"')
    assert changed == ("PreconditionFailed", 412)
    missing = {"Bucket": "scratch", "Key": f"{session.prefix}/none"}
    assert (await refusal(session, "copy_object", Key=key, CopySource=missing))[0] == "NoSuchKey"


async def test_bulk_deletes_answer_for_each_key(session: Session) -> None:
    own = [f"{session.prefix}/{name}" for name in ("a&<b>", "b", "missing")]
    for key in own[:2]:
        await session.do("put_object", Key=key, Body=b"x")
    keys = [{"Key": key} for key in (*own, "b23456789012/x", f"{session.prefix}/../y")]
    answer = await session.do("delete_objects", Delete={"Objects": keys})
    assert {item["Key"] for item in answer["Deleted"]} == set(own)
    assert [error["Code"] for error in answer["Errors"]] == ["AccessDenied", "InvalidArgument"]
    quiet = await session.do("delete_objects", Delete={"Objects": keys[:1], "Quiet": True})
    assert "Deleted" not in quiet


async def multipart(session: Session, key: str, parts: list[bytes]) -> tuple[str, list[dict[str, Any]]]:
    upload = (await session.do("create_multipart_upload", Key=key))["UploadId"]
    done = []
    for number, data in enumerate(parts, 1):
        part = await session.do("upload_part", Key=key, UploadId=upload, PartNumber=number, Body=data)
        done.append({"PartNumber": number, "ETag": part["ETag"]})
    return upload, done


async def test_a_multipart_upload_joins_its_parts(session: Session, storage: Storage) -> None:
    key, parts = f"{session.prefix}/big", [os.urandom(2 * MEBI), b"", os.urandom(100)]
    upload, done = await multipart(session, key, parts)
    listed = await session.do("list_parts", Key=key, UploadId=upload, MaxParts=2)
    assert [part["Size"] for part in listed["Parts"]] == [2 * MEBI, 0]
    assert listed["IsTruncated"]
    copied = {"Bucket": "cmip6", "Key": "tas/1.bin"}
    part = await session.do(
        "upload_part_copy", Key=key, UploadId=upload, PartNumber=9, CopySource=copied, CopySourceRange="bytes=0-3"
    )
    done.append({"PartNumber": 9, "ETag": part["CopyPartResult"]["ETag"]})
    await session.do("complete_multipart_upload", Key=key, UploadId=upload, MultipartUpload={"Parts": done})
    assert await session.read(Key=key) == b"".join(parts) + b"warm"
    assert storage.runner.service.table.get(session.prefix).usage.stored == 2 * MEBI + 104
    assert (await refusal(session, "list_parts", Key=key, UploadId=upload))[0] == "NoSuchUpload"


async def test_an_upload_belongs_to_its_launch_and_key(session: Session, storage: Storage) -> None:
    key = f"{session.prefix}/big"
    upload, done = await multipart(session, key, [b"1"])
    whole = {"UploadId": upload, "MultipartUpload": {"Parts": done}}
    assert (await refusal(session, "complete_multipart_upload", Key=f"{key}2", **whole))[0] == "NoSuchUpload"
    wrong = {"UploadId": upload, "MultipartUpload": {"Parts": [{"PartNumber": 1, "ETag": '"0"'}]}}
    assert (await refusal(session, "complete_multipart_upload", Key=key, **wrong))[0] == "InvalidPart"
    backwards = {"UploadId": upload, "MultipartUpload": {"Parts": [{"PartNumber": 2, "ETag": "x"}, *done]}}
    assert (await refusal(session, "complete_multipart_upload", Key=key, **backwards))[0] == "InvalidPartOrder"
    for evil in ("../" + upload, ".", "0" * 32):
        assert (await refusal(session, "abort_multipart_upload", Key=key, UploadId=evil))[0] == "NoSuchUpload"
    await session.do("abort_multipart_upload", Key=key, UploadId=upload)
    assert storage.runner.service.table.get(session.prefix).usage.stored == 0


async def test_a_part_can_be_replaced(session: Session, storage: Storage) -> None:
    key = f"{session.prefix}/big"
    upload, _ = await multipart(session, key, [b"first try"])
    part = await session.do("upload_part", Key=key, UploadId=upload, PartNumber=1, Body=b"second")
    assert storage.runner.service.table.get(session.prefix).usage.stored == 6
    parts = [{"PartNumber": 1, "ETag": part["ETag"]}]
    await session.do("complete_multipart_upload", Key=key, UploadId=upload, MultipartUpload={"Parts": parts})
    assert await session.read(Key=key) == b"second"


async def fill(session: Session, names: list[str]) -> None:
    for name in names:
        await session.do("put_object", Key=f"{session.prefix}/{name}", Body=b"")


NAMES = ["a/1", "a/2", "a-b", "a.b", "a0", "b/c/d", "b/c/e", "é", "z"]


@pytest.mark.parametrize("operation", ["list_objects_v2", "list_objects"])
@pytest.mark.parametrize("size", [1, 2, 3, 1000])
async def test_listings_are_in_byte_order_for_every_page_size(session: Session, operation: str, size: int) -> None:
    await fill(session, NAMES)
    root = f"{session.prefix}/"

    def pages(**arguments: Any) -> list[str]:
        found = []
        for page in session.client.get_paginator(operation).paginate(
            Bucket="scratch", Prefix=root, PaginationConfig={"PageSize": size}, **arguments
        ):
            found += [item["Key"] for item in page.get("Contents", [])]
            found += [item["Prefix"] for item in page.get("CommonPrefixes", [])]
        return [key.removeprefix(root) for key in found]

    assert await in_thread(pages) == sorted(NAMES, key=str.encode)
    rolled = await in_thread(lambda: pages(Delimiter="/"))
    assert sorted(rolled) == sorted(["a/", "a-b", "a.b", "a0", "b/", "é", "z"])


async def test_a_prefix_may_end_inside_a_name(session: Session) -> None:
    await fill(session, NAMES)

    async def listed(prefix: str, **arguments: Any) -> list[str]:
        page = await session.do("list_objects_v2", Prefix=f"{session.prefix}/{prefix}", **arguments)
        return [item["Key"].removeprefix(f"{session.prefix}/") for item in page.get("Contents", [])]

    assert await listed("a") == ["a-b", "a.b", "a/1", "a/2", "a0"]
    assert await listed("b/c/") == ["b/c/d", "b/c/e"]
    assert await listed("nothing/here/") == []
    assert await listed("", StartAfter=f"{session.prefix}/b/c/d") == ["b/c/e", "z", "é"]


async def test_only_buckets_in_scope_are_listed(session: Session) -> None:
    answer = await in_thread(session.client.list_buckets)
    assert [bucket["Name"] for bucket in answer["Buckets"]] == ["cmip6", "scratch"]
    await session.do("head_bucket")
    await session.do("get_bucket_location")
    assert (await refusal(session, "head_bucket", Bucket="private"))[1] == 403


async def test_the_catalogue_is_read_only(session: Session) -> None:
    assert await session.read(Bucket="cmip6", Key="readme.txt") == b"hello"
    listed = await session.do("list_objects_v2", Bucket="cmip6")
    assert [item["Key"] for item in listed["Contents"]] == ["readme.txt", "tas/1.bin"]
    assert await refusal(session, "put_object", Bucket="cmip6", Key="x", Body=b"") == ("AccessDenied", 403)
    assert await refusal(session, "delete_object", Bucket="cmip6", Key="readme.txt") == ("AccessDenied", 403)
    assert (await refusal(session, "get_object", Bucket="cmip6", Key="missing"))[1] == 404
