"""Listings sort a folder once, launches share the threads fairly, and the process listens before it measures."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from signal import SIGTERM
from typing import Any

import pytest

from pangeo_binder.model import StorageGrant
from pangeo_binder.storage.app import serve
from pangeo_binder.storage.s3.bucket import Query
from pangeo_binder.storage.s3.directory import DirectoryBucket
from pangeo_binder.storage.s3.filework import Share, in_file_thread, in_walk_thread, using
from tests.storage.process import Admin, Process, Session, Storage, in_thread, make_settings, prefix_of

KEYS = 3000
_readers: list[list[str]] = []


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "os.scandir":
        for read in _readers:
            read.append(str(arguments[0]))


sys.addaudithook(_audit)


@contextmanager
def counting_folder_reads() -> Iterator[list[str]]:
    """Collect every read of a folder in this process."""
    read: list[str] = []
    _readers.append(read)
    try:
        yield read
    finally:
        _readers.remove(read)


def many(folder: Path, count: int = KEYS) -> list[str]:
    """Make a flat folder of `count` empty files that has not changed for a while; return their names, sorted."""
    folder.mkdir()
    names = sorted(f"key-{number:06d}" for number in range(count))
    for name in names:
        (folder / name).touch()
    time.sleep(0.2)
    return names


async def pages(bucket: DirectoryBucket, query: Query) -> list[str]:
    found: list[str] = []
    while True:
        page = await bucket.scan(query)
        found += [item.key for item in page.objects]
        if not page.more_after:
            return found
        query = Query(query.prefix, query.delimiter, page.more_after, query.limit)


async def test_a_listing_reads_a_large_folder_once(tmp_path: Path) -> None:
    names = [f"flat/{name}" for name in many(tmp_path / "flat")]
    bucket = DirectoryBucket(tmp_path)
    with counting_folder_reads() as read:
        assert await pages(bucket, Query("flat/", limit=50)) == names
        assert await pages(bucket, Query("flat/key-00", delimiter=True, limit=50)) == names
        assert await pages(bucket, Query("", limit=50)) == names
    # the root is small, so it is read for each of its pages
    flat = len(read) - len(names) // 50
    assert flat == 1


async def test_a_changed_folder_is_read_again(tmp_path: Path) -> None:
    names = [f"flat/{name}" for name in many(tmp_path / "flat")]
    bucket = DirectoryBucket(tmp_path)
    assert await pages(bucket, Query("flat/")) == names
    for number in range(20):
        (tmp_path / "flat" / f"new-{number}").touch()
        (tmp_path / "flat" / names[number].removeprefix("flat/")).unlink()
        listed = await pages(bucket, Query("flat/"))
        assert listed == sorted([*names[number + 1 :], *(f"flat/new-{one}" for one in range(number + 1))])


async def test_a_page_can_begin_anywhere(tmp_path: Path) -> None:
    many(tmp_path / "flat", 1000)
    for name in ("a-b", "a/x", "a/y", "a0", "b/c/d"):
        (tmp_path / "flat" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "flat" / name).touch()
    await asyncio.sleep(0.2)
    bucket = DirectoryBucket(tmp_path)
    whole = await pages(bucket, Query("flat/"))
    for after in (
        "",
        "flat",
        "flat/",
        "flat/a",
        "flat/a/",
        "flat/a/x",
        "flat/a/z",
        "flat/b",
        "flat/key-",
        "flat/z",
        "z",
    ):
        expected = [key for key in whole if key.encode() > after.encode()]
        assert await pages(bucket, Query("flat/", after=after, limit=100)) == expected, after
        assert (await bucket.scan(Query("flat/a", after=after))).objects == tuple(
            item for item in (await bucket.scan(Query("flat/a"))).objects if item.key.encode() > after.encode()
        )


async def test_one_launch_cannot_occupy_all_threads() -> None:
    release, greedy, other = threading.Event(), Share(), Share()

    async def block(run: Any) -> None:
        with using(greedy):
            await run(release.wait, 30)

    blocked = [asyncio.ensure_future(block(run)) for run in (in_file_thread, in_walk_thread) for _ in range(100)]
    await asyncio.sleep(0.1)
    with using(other):
        assert await in_file_thread(lambda: "read") == "read"
        assert await in_walk_thread(lambda: "listed") == "listed"
    assert not any(task.done() for task in blocked)
    release.set()
    await asyncio.gather(*blocked)


async def test_the_process_listens_before_it_measures(tmp_path: Path, grant: StorageGrant) -> None:
    process = Process(tmp_path / "state")
    await process.start()
    environment = await process.admin.issue(grant)
    prefix = prefix_of(environment)
    process.stop(SIGTERM)
    saved = json.loads((process.state / "launches.json").read_text())
    assert saved["clean"] is True
    many(process.state / "objects" / prefix)

    for clean, counted in ((True, 0), (False, KEYS)):
        (process.state / "launches.json").write_text(json.dumps(saved | {"clean": clean}))
        runner = await serve(make_settings(process.state))
        try:
            launch = runner.service.table.get(prefix)
            assert launch is not None
            assert (launch.measured, launch.files.stored) == (clean, 0)  # nothing was walked before it listened
            admin = Admin(f"http://127.0.0.1:{runner.admin_port}")
            assert json.loads((process.state / "launches.json").read_text())["clean"] is False
            if not clean:
                assert (await admin.call("GET", f"/launches/{prefix}"))[1]["files"] == counted
            await runner.service.catch_up()
            assert launch.files.stored == KEYS
        finally:
            await runner.cleanup()


async def test_a_write_after_a_kill_waits_for_the_exact_count(session: Session, storage: Storage) -> None:
    launch = storage.runner.service.table.get(session.prefix)
    assert launch is not None
    home = storage.settings.state_dir / "objects" / session.prefix
    await in_thread(lambda: many(home, launch.limits.objects))
    launch.measured = False
    await session.do("list_objects_v2", Prefix=f"{session.prefix}/")
    assert not launch.measured
    with pytest.raises(session.client.exceptions.ClientError, match="objects, folders"):
        await session.do("put_object", Key=f"{session.prefix}/one-more", Body=b"")
    assert launch.files.stored == launch.limits.objects
