"""Every dimension has a limit: objects, folders, uploads, parts and requests; and the sum of all grants is compared."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from botocore.exceptions import ClientError

from pangeo_binder.model import StorageGrant
from pangeo_binder.storage.quota import limits_of
from tests.storage.process import Session, Storage, closing_client, prefix_of, refusal

FLOOR = 1000


@pytest.fixture
async def tiny(storage: Storage) -> AsyncIterator[Session]:
    """A launch that may store one byte."""
    environment = await storage.admin.issue(replace(storage.grant, scratch_bytes=1))
    with closing_client(environment) as client:
        yield Session(environment, client, prefix_of(environment))


async def about(storage: Storage, session: Session) -> tuple[int, int]:
    """Return the launch's files, as counted and as found on the disk."""
    answer = (await storage.admin.call("GET", f"/launches/{session.prefix}"))[1]
    launch = storage.runner.service.table.get(session.prefix)
    assert launch is not None
    launch.measured = False
    counted = answer["files"]
    measured = (await storage.admin.call("GET", f"/launches/{session.prefix}"))[1]["files"]
    return counted, measured


def on_disk(storage: Storage, session: Session) -> int:
    return sum(1 for _ in (storage.settings.state_dir / "objects" / session.prefix).rglob("*"))


async def test_one_byte_of_scratch_does_not_hold_objects_without_end(storage: Storage, tiny: Session) -> None:
    async def put(number: int) -> None:
        await tiny.do("put_object", Key=f"{tiny.prefix}/{number}", Body=b"")

    done = await asyncio.gather(*(put(number) for number in range(FLOOR + 30)), return_exceptions=True)
    refused = [one for one in done if one is not None]
    assert len(refused) == 30
    assert all(isinstance(one, ClientError) and one.response["Error"]["Code"] == "QuotaExceeded" for one in refused)
    assert "of at most 1000 objects, folders, unfinished uploads and parts. Delete some" in str(refused[0])
    assert on_disk(storage, tiny) == FLOOR
    await tiny.do("delete_object", Key=f"{tiny.prefix}/1")
    await tiny.do("put_object", Key=f"{tiny.prefix}/0", Body=b"")
    await put(1)
    assert await about(storage, tiny) == (FLOOR, FLOOR)


async def test_folders_count_like_objects(storage: Storage, tiny: Session) -> None:
    deep = "d/" * 60
    done = 0
    with pytest.raises(ClientError, match="objects, folders"):
        for done in range(100):
            await tiny.do("put_object", Key=f"{tiny.prefix}/{done}/{deep}x", Body=b"")
    assert done == FLOOR // 62
    assert on_disk(storage, tiny) == done * 62
    assert await about(storage, tiny) == (done * 62, done * 62)
    await tiny.do("delete_object", Key=f"{tiny.prefix}/0/{deep}x")
    assert await about(storage, tiny) == ((done - 1) * 62, (done - 1) * 62)


async def test_unfinished_uploads_and_their_parts_count(storage: Storage, tiny: Session) -> None:
    key = {"Key": f"{tiny.prefix}/x"}
    ids = [(await tiny.do("create_multipart_upload", **key))["UploadId"] for _ in range(limits_of(1).uploads)]
    assert await refusal(tiny, "create_multipart_upload", **key) == ("SlowDown", 503)

    async def part(number: int) -> None:
        await tiny.do("upload_part", **key, UploadId=ids[0], PartNumber=number, Body=b"")

    room = FLOOR - 2 * len(ids)
    done = await asyncio.gather(*(part(number) for number in range(1, room + 11)), return_exceptions=True)
    assert sum(one is not None for one in done) == 10
    assert await about(storage, tiny) == (FLOOR, FLOOR)
    for id_ in ids:
        await tiny.do("abort_multipart_upload", **key, UploadId=id_)
    assert await about(storage, tiny) == (0, 0)


async def test_copies_and_refused_writes_count_nothing_twice(storage: Storage, tiny: Session) -> None:
    await tiny.do("put_object", Key=f"{tiny.prefix}/a/b", Body=b"")
    source = {"Bucket": "scratch", "Key": f"{tiny.prefix}/a/b"}
    await tiny.do("copy_object", Key=f"{tiny.prefix}/c/d/e", CopySource=source)
    assert (await refusal(tiny, "put_object", Key=f"{tiny.prefix}/n/e/w", Body=b"12"))[0] == "QuotaExceeded"
    assert (await refusal(tiny, "put_object", Key=f"{tiny.prefix}/a/b", Body=b"", IfNoneMatch="*"))[1] == 412
    upload = (await tiny.do("create_multipart_upload", Key=f"{tiny.prefix}/f/g"))["UploadId"]
    part = await tiny.do("upload_part", Key=f"{tiny.prefix}/f/g", UploadId=upload, PartNumber=1, Body=b"1")
    whole = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    await tiny.do("complete_multipart_upload", Key=f"{tiny.prefix}/f/g", UploadId=upload, MultipartUpload=whole)
    assert await about(storage, tiny) == (7, 7)
    assert on_disk(storage, tiny) == 7
    keys = [{"Key": f"{tiny.prefix}/{name}"} for name in ("a/b", "c/d/e", "f/g")]
    await tiny.do("delete_objects", Delete={"Objects": keys})
    assert await about(storage, tiny) == (0, 0)


async def test_a_launch_without_scratch_stores_not_even_empty_objects(storage: Storage) -> None:
    environment = await storage.admin.issue(StorageGrant(0, 0, None, storage.grant.read))
    with closing_client(environment) as client:
        session = Session(environment, client, prefix_of(environment))
        assert (await refusal(session, "put_object", Key=f"{session.prefix}/x", Body=b""))[0] == "QuotaExceeded"
        assert (await refusal(session, "create_multipart_upload", Key=f"{session.prefix}/x"))[0] == "QuotaExceeded"


async def test_concurrent_requests_are_limited_by_the_grant(storage: Storage, tiny: Session) -> None:
    limit = limits_of(1).requests
    key = f"{tiny.prefix}/x"
    refused = asyncio.Semaphore(0)
    loop = asyncio.get_running_loop()

    def delete() -> str:
        try:
            client.delete_object(Bucket="scratch", Key=key)
        except ClientError as error:
            loop.call_soon_threadsafe(refused.release)
            return str(error)
        return ""

    with closing_client(tiny.environment, max_pool_connections=200) as client, ThreadPoolExecutor(limit + 20) as pool:
        async with storage.runner.service.locks.hold(f"scratch/{key}"):
            requests = [loop.run_in_executor(pool, delete) for _ in range(limit + 20)]
            for _ in range(20):
                await refused.acquire()
        answers = [answer for answer in await asyncio.gather(*requests) if answer]
    assert len(answers) == 20
    assert f"more than {limit} concurrent requests" in answers[0]


@pytest.mark.parametrize(
    ("scratch", "objects", "uploads", "requests"),
    [
        (0, 0, 100, 64),
        (1, 1000, 100, 64),
        (1 << 30, 17_384, 1000, 128),
        (50 << 30, 820_200, 1000, 256),
        (1 << 50, 1_000_000, 1000, 256),
    ],
)
def test_limits_grow_with_the_grant(scratch: int, objects: int, uploads: int, requests: int) -> None:
    limits = limits_of(scratch)
    assert (limits.objects, limits.uploads, limits.requests) == (objects, uploads, requests)


async def test_more_grants_than_the_disk_holds_are_reported(storage: Storage, caplog: pytest.LogCaptureFixture) -> None:
    assert (await storage.admin.call("GET", "/health"))[1]["overcommitted"] is False
    with caplog.at_level(logging.WARNING):
        await storage.admin.issue(replace(storage.grant, scratch_bytes=1 << 60))
        await storage.admin.issue(replace(storage.grant, scratch_bytes=1 << 60))
    assert caplog.text.count("but the disk has room for") == 1
    health = (await storage.admin.call("GET", "/health"))[1]
    assert (health["overcommitted"], health["granted_bytes"]) == (True, 2 << 60)
    metrics = (await storage.admin.call("GET", "/metrics"))[1]
    assert "pangeo_binder_storage_granted_bytes 2.305" in metrics
    assert "pangeo_binder_storage_volume_bytes" in metrics
