"""A full disk, a disk that cannot be written, and damaged state: clear errors, no half state, no revived key."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from signal import SIGKILL, SIGTERM
from typing import Any

import pytest
from botocore.exceptions import ClientError

from pangeo_binder.model import StorageGrant
from tests.storage.process import PROGRAM, Process, Session, closing_client, prefix_of, refusal

DISK_BYTES = 8 << 20


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system of its own."""
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(place)]
    tried = subprocess.run(mount, capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"LEFT OUT: needs the right to mount a tmpfs (uid {os.geteuid()}: {tried.stderr.strip()})")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.fixture
async def process(disk: Path) -> AsyncIterator[Process]:
    process = Process(disk / "state")
    await process.start()
    yield process
    process.end()


@pytest.fixture
async def launch(process: Process, grant: StorageGrant) -> AsyncIterator[Session]:
    environment = await process.admin.issue(grant)
    with closing_client(environment) as client:
        yield Session(environment, client, prefix_of(environment))


def fill(disk: Path) -> Path:
    """Fill the disk to its last byte."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return filler


async def remount(disk: Path, option: str) -> None:
    await asyncio.to_thread(subprocess.run, ["mount", "-o", f"remount,{option}", str(disk)], check=True)


def staged(process: Process) -> list[str]:
    return [path.name for path in (process.state / "staging").iterdir()]


async def test_every_write_to_a_full_disk_is_refused_with_a_sentence(
    process: Process, launch: Session, disk: Path
) -> None:
    key = {"Key": f"{launch.prefix}/x"}
    await launch.do("put_object", **key, Body=b"kept")
    upload = (await launch.do("create_multipart_upload", Key=f"{launch.prefix}/y"))["UploadId"]
    before = (await process.admin.call("GET", f"/launches/{launch.prefix}"))[1]
    filler = fill(disk)
    part = {"Key": f"{launch.prefix}/y", "UploadId": upload, "PartNumber": 1}
    source = {"CopySource": {"Bucket": "scratch", "Key": key["Key"]}}
    for operation, arguments in (
        ("put_object", {**key, "Body": b"new"}),
        ("put_object", {**key, "Body": bytes(3 << 20)}),
        ("put_object", {"Key": f"{launch.prefix}/a/b/c/d", "Body": b"new"}),
        ("create_multipart_upload", {"Key": f"{launch.prefix}/z"}),
        ("upload_part", {**part, "Body": b"part"}),
        ("upload_part", {**part, "Body": bytes(3 << 20)}),
        ("upload_part_copy", {**part, **source}),
        ("copy_object", {"Key": f"{launch.prefix}/copy", **source}),
    ):
        with pytest.raises(ClientError, match="The disk of the storage service is full") as error:
            await launch.do(operation, **arguments)
        assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 507
        assert staged(process) == []
    assert await launch.read(**key) == b"kept"
    about = (await process.admin.call("GET", f"/launches/{launch.prefix}"))[1]
    assert (about["used_bytes"], about["files"]) == (before["used_bytes"], before["files"])
    filler.unlink()
    await launch.do("put_object", **key, Body=b"new")
    await launch.do("delete_object", **key)
    await launch.do("abort_multipart_upload", Key=f"{launch.prefix}/y", UploadId=upload)
    assert (await process.admin.call("GET", f"/launches/{launch.prefix}"))[1]["files"] == 0


async def test_a_complete_on_a_full_disk_keeps_the_parts(process: Process, launch: Session, disk: Path) -> None:
    key = f"{launch.prefix}/y"
    upload = (await launch.do("create_multipart_upload", Key=key))["UploadId"]
    parts = [
        await launch.do("upload_part", Key=key, UploadId=upload, PartNumber=number, Body=b"1" * 1000)
        for number in (1, 2)
    ]
    named = [{"PartNumber": number, "ETag": part["ETag"]} for number, part in enumerate(parts, 1)]
    whole = {"Key": key, "UploadId": upload, "MultipartUpload": {"Parts": named}}
    filler = fill(disk)
    assert await refusal(launch, "complete_multipart_upload", **whole) == ("InsufficientStorage", 507)
    filler.unlink()
    await launch.do("complete_multipart_upload", **whole)
    assert await launch.read(Key=key) == b"1" * 2000


async def test_deleting_works_on_a_full_disk(process: Process, launch: Session, disk: Path) -> None:
    await launch.do("put_object", Key=f"{launch.prefix}/a/x", Body=b"1" * 5000)
    fill(disk)
    await launch.do("delete_object", Key=f"{launch.prefix}/a/x")
    await launch.do("put_object", Key=f"{launch.prefix}/y", Body=b"2")


async def test_a_revocation_on_a_full_disk_holds_after_a_restart(
    process: Process, launch: Session, disk: Path, grant: StorageGrant
) -> None:
    other = await process.admin.issue(grant)
    await launch.do("put_object", Key=f"{launch.prefix}/x", Body=b"1")
    fill(disk)
    assert (await process.admin.call("DELETE", f"/launches/{launch.prefix}"))[0] == 204
    assert await refusal(launch, "get_object", Key=f"{launch.prefix}/x") == ("AccessDenied", 403)
    process.stop(SIGKILL)
    await process.start()
    assert await refusal(launch, "get_object", Key=f"{launch.prefix}/x") == ("AccessDenied", 403)
    assert (await process.admin.call("GET", f"/launches/{launch.prefix}"))[1]["revoked"] is True
    assert (await process.admin.call("GET", f"/launches/{prefix_of(other)}"))[1]["revoked"] is False


async def test_a_grant_on_a_full_disk_is_refused_and_leaves_nothing(
    process: Process, launch: Session, disk: Path, grant: StorageGrant
) -> None:
    filler = fill(disk)
    id_ = "a23456789012"
    body: dict[str, Any] = {"grant": json.loads(json.dumps({"scratch_bytes": 1, "keep_seconds": 1})), "owner": "a/"}
    status, answer = await process.admin.call("PUT", f"/launches/{id_}", json=body | {"expires_at": 4e9})
    assert (status, answer["error"]) == (507, "The disk of the storage service is full or cannot be written.")
    assert (await process.admin.call("GET", f"/launches/{id_}"))[0] == 404
    filler.unlink()
    await process.admin.issue(grant, id_)
    filler = fill(disk)
    changed = replace(grant, scratch_bytes=5)
    status, _ = await process.admin.call(
        "PUT", f"/launches/{id_}", json={"grant": {"scratch_bytes": 5, "keep_seconds": 1}, "owner": "ada-repo/",
                                         "expires_at": 4e9},
    )  # fmt: skip
    assert status == 507
    about = (await process.admin.call("GET", f"/launches/{id_}"))[1]
    assert about["scratch_bytes"] == grant.scratch_bytes != changed.scratch_bytes


async def test_a_revocation_that_cannot_be_recorded_holds_and_is_tried_again(
    process: Process, launch: Session, disk: Path
) -> None:
    path = f"/launches/{launch.prefix}"
    await remount(disk, "ro")
    for _ in range(2):
        status, answer = await process.admin.call("DELETE", path)
        assert status == 507
        assert answer["error"].startswith("The credentials are revoked, but the disk")
        assert answer["hint"]
        assert await refusal(launch, "get_object", Key=f"{launch.prefix}/x") == ("AccessDenied", 403)
    await remount(disk, "rw")
    assert (await process.admin.call("DELETE", path))[0] == 204
    process.stop(SIGKILL)
    await process.start()
    assert (await process.admin.call("GET", path))[1]["revoked"] is True


async def test_the_process_stops_and_starts_on_a_full_disk(process: Process, launch: Session, disk: Path) -> None:
    await launch.do("put_object", Key=f"{launch.prefix}/x", Body=b"1")
    fill(disk)
    assert process.stop(SIGTERM) == 0
    await process.start()
    assert await launch.read(Key=f"{launch.prefix}/x") == b"1"
    assert (await process.admin.call("GET", f"/launches/{launch.prefix}"))[1]["used_bytes"] == 1


DAMAGED = ["", "{", "[]", "{}", '{"version": 1, "launches": [{}]}', '{"version": 1, "launches": 5}', "[" * 100_000]


@pytest.mark.parametrize("text", DAMAGED)
def test_a_damaged_table_is_named_at_the_start(tmp_path: Path, text: str) -> None:
    state = tmp_path / "state"
    state.mkdir()
    (state / "launches.json").write_text(text)
    started = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(state), "0", "0", "token"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert started.returncode == 1
    assert f"The launch table {state / 'launches.json'} cannot be read" in started.stderr
    assert "Restore the file from a backup" in started.stderr
    assert "Traceback" not in started.stderr
    assert (state / "launches.json").read_text() == text


async def test_the_table_of_an_earlier_version_is_read(tmp_path: Path, grant: StorageGrant) -> None:
    process = Process(tmp_path / "state")
    try:
        await process.start()
        environment, ended = await process.admin.issue(grant), await process.admin.issue(grant)
        await process.admin.call("DELETE", f"/launches/{prefix_of(ended)}")
        process.stop(SIGTERM)
        table = process.state / "launches.json"
        rows = json.loads(table.read_text())["launches"]
        for row in rows:
            del row["stored_bytes"], row["files"]
        table.write_text(json.dumps({"version": 1, "launches": rows}))
        await asyncio.to_thread(shutil.rmtree, process.state / "live")
        (process.state / "objects" / prefix_of(environment)).mkdir()
        (process.state / "objects" / prefix_of(environment) / "x").write_bytes(b"12345")
        await process.start()
        about = (await process.admin.call("GET", f"/launches/{prefix_of(environment)}"))[1]
        assert (about["revoked"], about["used_bytes"], about["files"]) == (False, 5, 1)
        assert (await process.admin.call("GET", f"/launches/{prefix_of(ended)}"))[1]["revoked"] is True
    finally:
        process.end()
