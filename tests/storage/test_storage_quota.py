"""Byte limits on scratch and on reading are exact, and a refusal names the limit."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from botocore.exceptions import ClientError

from pangeo_binder.model import StorageGrant
from pangeo_binder.storage.quota import Amount, OverQuota, Usage, reserve_egress, reserve_scratch
from tests.storage.process import Session, Storage, closing_client, prefix_of, refusal

LIMIT = 1000


@pytest.fixture
async def small(storage: Storage) -> Any:
    """A launch with small limits."""
    environment = await storage.admin.issue(replace(storage.grant, scratch_bytes=LIMIT, egress_bytes=LIMIT))
    with closing_client(environment) as client:
        yield Session(environment, client, prefix_of(environment))


def usage(storage: Storage, session: Session) -> Usage:
    launch = storage.runner.service.table.get(session.prefix)
    assert launch is not None
    return launch.usage


async def test_scratch_is_limited_to_the_byte(storage: Storage, small: Session) -> None:
    key = f"{small.prefix}/x"
    await small.do("put_object", Key=key, Body=b"x" * LIMIT)
    message = "1000 bytes of this launch's 1000 bytes of scratch storage are in use. Delete"
    with pytest.raises(ClientError, match=message) as error:
        await small.do("put_object", Key=f"{key}2", Body=b"x")
    assert error.value.response["Error"]["Code"] == "QuotaExceeded"
    await small.do("put_object", Key=key, Body=b"y" * (LIMIT - 1))
    await small.do("put_object", Key=f"{key}2", Body=b"x")
    assert usage(storage, small) == Usage(LIMIT, 0, 0)
    await small.do("delete_object", Key=key)
    assert usage(storage, small).stored == 1


async def test_parts_count_before_the_upload_is_completed(storage: Storage, small: Session) -> None:
    key = {"Key": f"{small.prefix}/x"}
    upload = (await small.do("create_multipart_upload", **key))["UploadId"]
    await small.do("upload_part", **key, UploadId=upload, PartNumber=1, Body=b"x" * 600)
    code = await refusal(small, "upload_part", **key, UploadId=upload, PartNumber=2, Body=b"x" * 600)
    assert code == ("QuotaExceeded", 403)
    source = {"Bucket": "cmip6", "Key": "tas/1.bin"}
    copy = await refusal(small, "upload_part_copy", **key, UploadId=upload, PartNumber=2, CopySource=source)
    assert copy == ("QuotaExceeded", 403)
    await small.do("abort_multipart_upload", **key, UploadId=upload)
    assert usage(storage, small) == Usage()


async def test_copies_count_like_writes(storage: Storage, small: Session) -> None:
    source = {"Bucket": "cmip6", "Key": "tas/1.bin"}
    code = await refusal(small, "copy_object", Key=f"{small.prefix}/x", CopySource=source)
    assert code == ("QuotaExceeded", 403)
    assert usage(storage, small) == Usage()


async def test_concurrent_writes_cannot_exceed_the_limit(storage: Storage, small: Session) -> None:
    puts = [small.do("put_object", Key=f"{small.prefix}/{n}", Body=b"x" * 300) for n in range(10)]
    results = await asyncio.gather(*puts, return_exceptions=True)
    assert sum(isinstance(result, dict) for result in results) == 3
    assert usage(storage, small) == Usage(900, 0, 0)


async def test_a_refused_write_does_not_count(storage: Storage, small: Session) -> None:
    wrong = {"ContentMD5": "AAAAAAAAAAAAAAAAAAAAAA=="}
    code = await refusal(small, "put_object", Key=f"{small.prefix}/x", Body=b"x" * 900, **wrong)
    assert code == ("BadDigest", 400)
    assert usage(storage, small) == Usage()
    assert list((storage.settings.state_dir / "staging").iterdir()) == []


async def test_reading_is_counted_and_limited(storage: Storage, small: Session) -> None:
    key = f"{small.prefix}/x"
    await small.do("put_object", Key=key, Body=b"x" * 600)
    assert len(await small.read(Key=key)) == 600
    with pytest.raises(ClientError, match=r"this launch may read 1000 bytes in total, of which 600 bytes are used"):
        await small.read(Key=key)
    assert len(await small.read(Key=key, Range="bytes=0-399")) == 400
    assert (await refusal(small, "get_object", Bucket="cmip6", Key="readme.txt"))[0] == "QuotaExceeded"
    assert usage(storage, small).egress == LIMIT


def test_reservations_are_released_once() -> None:
    count = Usage(stored=50)
    with reserve_scratch(count, 100, 40) as reservation:
        with pytest.raises(OverQuota):
            reserve_scratch(count, 100, 11)
        reservation.commit(Amount(40), replaced=30)
    assert count == Usage(stored=60)
    with reserve_scratch(count, 100, 70, replaces=60):
        assert count.reserved == 70
    assert count == Usage(stored=60)


def test_egress_without_a_limit_is_only_counted() -> None:
    count = Usage()
    reserve_egress(count, None, 10**15)
    assert count.egress == 10**15


async def test_a_launch_without_scratch_can_still_read(storage: Storage) -> None:
    nothing = StorageGrant(0, 0, None, storage.grant.read)
    environment = await storage.admin.issue(nothing)
    with closing_client(environment) as client:
        session = Session(environment, client, prefix_of(environment))
        assert await session.read(Bucket="cmip6", Key="readme.txt") == b"hello"
        code = await refusal(session, "put_object", Key=f"{session.prefix}/x", Body=b"x")
    assert code == ("QuotaExceeded", 403)
