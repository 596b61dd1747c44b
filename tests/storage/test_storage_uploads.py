"""Multipart uploads lose nothing: after a kill, on a repeated or slow Complete, and when a key is taken."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import zlib
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from signal import SIGKILL
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from pangeo_binder.model import StorageGrant
from tests.storage.process import Process, Session, Storage, closing_client, in_thread, prefix_of, refusal

MEBI = 1024 * 1024


async def upload(session: Session, key: str, parts: list[bytes]) -> dict[str, Any]:
    """Upload `parts`; return the arguments with which they are completed."""
    id_ = (await session.do("create_multipart_upload", Key=key))["UploadId"]
    done = []
    for number, data in enumerate(parts, 1):
        part = await session.do("upload_part", Key=key, UploadId=id_, PartNumber=number, Body=data)
        done.append({"PartNumber": number, "ETag": part["ETag"]})
    return {"Key": key, "UploadId": id_, "MultipartUpload": {"Parts": done}}


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    process = Process(tmp_path / "state")
    yield process
    process.end()


@pytest.mark.parametrize("seconds", [0.005, 0.03, 0.1, 0.3])
async def test_a_kill_during_complete_destroys_no_part(process: Process, grant: StorageGrant, seconds: float) -> None:
    await process.start()
    environment = await process.admin.issue(grant)
    parts = [os.urandom(12 * MEBI) for _ in range(4)]
    with closing_client(environment) as client:
        session = Session(environment, client, prefix_of(environment))
        whole = await upload(session, f"{session.prefix}/big", parts)
        running = asyncio.ensure_future(session.do("complete_multipart_upload", **whole, IfNoneMatch="*"))
        await asyncio.sleep(seconds)
        process.stop(SIGKILL)
        await asyncio.wait([running])
        running.exception()
        await process.start()
        again = await session.do("complete_multipart_upload", **whole, IfNoneMatch="*")
        assert (await session.do("head_object", Key=whole["Key"]))["ETag"] == again["ETag"]
        expected = hashlib.sha256(b"".join(parts)).hexdigest()
        assert hashlib.sha256(await session.read(Key=whole["Key"])).hexdigest() == expected
        for _ in range(100):  # after a kill, usage is measured in the background
            about = (await process.admin.call("GET", f"/launches/{session.prefix}"))[1]
            if (about["used_bytes"], about["files"]) == (48 * MEBI, 1):
                break
            await asyncio.sleep(0.1)
        assert (about["used_bytes"], about["files"]) == (48 * MEBI, 1)


async def test_a_repeated_complete_gets_the_same_answer(session: Session, storage: Storage) -> None:
    key = f"{session.prefix}/a/big"
    whole = await upload(session, key, [b"1", b"2"])
    first = await session.do("complete_multipart_upload", **whole)
    assert (await session.do("complete_multipart_upload", **whole))["ETag"] == first["ETag"]
    await session.do("put_object", Key=key, Body=b"newer")
    assert (await session.do("complete_multipart_upload", **whole))["ETag"] == first["ETag"]
    assert await session.read(Key=key) == b"newer"
    other = whole | {"MultipartUpload": {"Parts": whole["MultipartUpload"]["Parts"][:1]}}
    assert (await refusal(session, "complete_multipart_upload", **other))[0] == "NoSuchUpload"
    elsewhere = whole | {"Key": f"{key}2"}
    assert (await refusal(session, "complete_multipart_upload", **elsewhere))[0] == "NoSuchUpload"
    assert (await refusal(session, "abort_multipart_upload", Key=key, UploadId=whole["UploadId"]))[0] == "NoSuchUpload"


async def test_completed_uploads_are_forgotten_with_their_launch(session: Session, storage: Storage) -> None:
    whole = await upload(session, f"{session.prefix}/big", [b"1"])
    await session.do("complete_multipart_upload", **whole)
    remembered = storage.settings.state_dir / "completed" / session.prefix
    assert len(list(remembered.iterdir())) == 1
    await storage.admin.call("DELETE", f"/launches/{session.prefix}")
    assert not remembered.exists()


@pytest.mark.parametrize("taken", ["a", "a/b/c/d"])
async def test_a_key_that_collides_is_refused_before_any_part_is_sent(session: Session, taken: str) -> None:
    await session.do("put_object", Key=f"{session.prefix}/{taken}", Body=b"1")
    key = {"Key": f"{session.prefix}/a/b/c"}
    assert await refusal(session, "create_multipart_upload", **key) == ("InvalidArgument", 400)
    assert await refusal(session, "put_object", **key, Body=b"1") == ("InvalidArgument", 400)


async def test_a_collision_found_at_complete_keeps_the_parts(session: Session) -> None:
    whole = await upload(session, f"{session.prefix}/a", [b"1", b"2"])
    await session.do("put_object", Key=f"{session.prefix}/a/b", Body=b"1")
    assert (await refusal(session, "complete_multipart_upload", **whole))[0] == "InvalidArgument"
    await session.do("delete_object", Key=f"{session.prefix}/a/b")
    await session.do("complete_multipart_upload", **whole)
    assert await session.read(Key=whole["Key"]) == b"12"


class RawComplete:
    """A Complete whose answer is read as it arrives."""

    def __init__(self, session: Session, whole: dict[str, Any]) -> None:
        environment = session.environment
        parts = "".join(
            f"<Part><PartNumber>{part['PartNumber']}</PartNumber><ETag>{part['ETag']}</ETag></Part>"
            for part in whole["MultipartUpload"]["Parts"]
        )
        body = f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode()
        path = f"/scratch/{whole['Key']}?uploadId={whole['UploadId']}"
        request = AWSRequest("POST", environment["AWS_ENDPOINT_URL"] + path, data=body)
        names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
        S3SigV4Auth(Credentials(*(environment[name] for name in names)), "s3", "us-east-1").add_auth(request)
        self.connection = HTTPConnection(urlsplit(environment["AWS_ENDPOINT_URL"]).netloc, timeout=30)
        self.connection.request("POST", path, body, dict(request.headers.items()))

    def begin(self) -> tuple[int, bytes]:
        """Return the status and the first bytes of the answer."""
        self.answer = self.connection.getresponse()
        return self.answer.status, self.answer.read1(60)

    def rest(self) -> bytes:
        data = self.answer.read()
        self.connection.close()
        return data


async def test_a_slow_complete_is_answered_at_once_and_kept_alive(session: Session, storage: Storage) -> None:
    whole = await upload(session, f"{session.prefix}/big", [b"1", b"2"])
    locks = storage.runner.service.locks
    async with locks.hold(whole["UploadId"]):  # as another Complete of the same upload does
        raw = await in_thread(lambda: RawComplete(session, whole))
        assert await in_thread(raw.begin) == (200, b'<?xml version="1.0" encoding="UTF-8"?>\n')
        assert await in_thread(lambda: raw.answer.read1(1)) == b" "
    assert b"<CompleteMultipartUploadResult" in await in_thread(raw.rest)
    assert await session.read(Key=whole["Key"]) == b"12"


async def test_an_error_of_a_slow_complete_is_in_its_document(session: Session, storage: Storage) -> None:
    whole = await upload(session, f"{session.prefix}/a", [b"1", b"2"])
    await session.do("put_object", Key=f"{session.prefix}/a/b", Body=b"1")
    async with storage.runner.service.locks.hold(whole["UploadId"]):
        raw = await in_thread(lambda: RawComplete(session, whole))
        assert (await in_thread(raw.begin))[0] == 200
    assert b"<Error><Code>InvalidArgument</Code>" in await in_thread(raw.rest)


async def test_a_complete_continues_without_its_client(session: Session, storage: Storage) -> None:
    whole = await upload(session, f"{session.prefix}/big", [b"1", b"2"])
    async with storage.runner.service.locks.hold(whole["UploadId"]):
        raw = await in_thread(lambda: RawComplete(session, whole))
        await in_thread(raw.begin)
        raw.answer.close()
        raw.connection.close()
    await session.do("complete_multipart_upload", **whole)
    assert await session.read(Key=whole["Key"]) == b"12"


async def test_the_checksum_and_size_of_the_whole_object_are_checked(session: Session) -> None:
    parts = [b"one" * 1000, b"two" * 1000]
    whole = await upload(session, f"{session.prefix}/big", parts)
    full = base64.b64encode(zlib.crc32(b"".join(parts)).to_bytes(4, "big")).decode()
    each = b"".join(hashlib.sha256(part).digest() for part in parts)
    composite = f"{base64.b64encode(hashlib.sha256(each).digest()).decode()}-2"
    for wrong in ({"ChecksumCRC32": "AAAAAA=="}, {"ChecksumSHA256": composite.replace("-2", "-3")}):
        assert (await refusal(session, "complete_multipart_upload", **whole, **wrong))[0] == "BadDigest"
    assert (await refusal(session, "complete_multipart_upload", **whole, MpuObjectSize=5999))[0] == "InvalidRequest"
    right = {"ChecksumCRC32": full, "ChecksumSHA256": composite, "MpuObjectSize": 6000}
    await session.do("complete_multipart_upload", **whole, **right)
    assert await session.read(Key=whole["Key"]) == b"".join(parts)


async def test_ten_thousand_parts_with_checksums_can_be_named(session: Session) -> None:
    whole = await upload(session, f"{session.prefix}/big", [b"1"])
    sha256 = base64.b64encode(bytes(32)).decode()
    more = [{"PartNumber": number, "ETag": f'"{"0" * 32}"', "ChecksumSHA256": sha256} for number in range(2, 10_001)]
    many = whole | {"MultipartUpload": {"Parts": [*whole["MultipartUpload"]["Parts"], *more]}}
    assert (await refusal(session, "complete_multipart_upload", **many))[0] == "InvalidPart"
