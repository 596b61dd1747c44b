"""What is flushed to the disk before a write is acknowledged, for each strictness."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from pangeo_binder.storage.app import StorageSettings
from pangeo_binder.storage.durable import Durability
from pangeo_binder.storage.launches import LaunchTable
from pangeo_binder.storage.s3.directory import DirectoryBucket
from pangeo_binder.storage.s3.spool import Spool
from pangeo_binder.storage.s3.uploads import Completion, Uploads


@pytest.fixture
def flushed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Collect whether a file or a folder is flushed, in order."""
    order: list[str] = []
    fsync = os.fsync

    def observed(descriptor: int) -> None:
        order.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", observed)
    return order


@pytest.mark.parametrize(
    ("durability", "expected"),
    [
        (Durability.FULL, ["file", "folder", "folder", "folder"]),  # two new folders, each named by its parent
        (Durability.FILE, ["file"]),
        (Durability.NONE, []),
    ],
)
async def test_an_object_is_flushed(
    tmp_path: Path, flushed: list[str], durability: Durability, expected: list[str]
) -> None:
    bucket = DirectoryBucket(tmp_path, durability)
    with Spool(tmp_path) as spool:
        spool.append(b"1")
        await bucket.write("a/b/c", spool, create=False)
    assert flushed == expected


@pytest.mark.parametrize("durability", Durability)
def test_parts_and_completions_are_flushed(tmp_path: Path, flushed: list[str], durability: Durability) -> None:
    uploads = Uploads(tmp_path / "uploads", tmp_path / "completed", durability)
    uploads.folder.mkdir()
    uploads.completed.mkdir()
    upload = uploads.begin("launch", "key", "", 10)
    with Spool(tmp_path) as spool:
        spool.append(b"1")
        uploads.store(upload, 1, spool)
    uploads.intend(upload, Completion("key", "etag", "digest"))
    uploads.finish("launch", upload)
    assert uploads.completion("launch", upload.id) == Completion("key", "etag", "digest")
    files = {Durability.FULL: 3, Durability.FILE: 3, Durability.NONE: 0}[durability]
    assert flushed.count("file") == files
    assert ("folder" in flushed) == (durability is Durability.FULL)


async def test_the_launch_table_is_flushed(tmp_path: Path, flushed: list[str]) -> None:
    await LaunchTable(tmp_path / "launches.json").save()
    assert flushed == ["file", "folder"]


def test_the_default_is_the_strictest() -> None:
    assert StorageSettings(Path(), "", "", ()).durability is Durability.FULL
