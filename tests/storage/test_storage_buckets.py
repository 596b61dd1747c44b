"""The same tests of the bucket interface for every driver."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from obstore.store import MemoryStore

from pangeo_binder.storage.s3.bucket import Bucket, Query, Span
from pangeo_binder.storage.s3.directory import DirectoryBucket
from pangeo_binder.storage.s3.errors import S3Error
from pangeo_binder.storage.s3.remote import RemoteBucket
from pangeo_binder.storage.s3.spool import MEMORY_BYTES, Spool
from pangeo_binder.storage.scope import key_problem

Put = Callable[..., None]


def directory(root: Path) -> Bucket:
    return DirectoryBucket(root)


def memory(root: Path) -> Bucket:
    return RemoteBucket(MemoryStore())


@pytest.fixture(params=[directory, memory])
def bucket(request: pytest.FixtureRequest, tmp_path: Path) -> Bucket:
    (tmp_path / "root").mkdir()
    (tmp_path / "staging").mkdir()
    made: Bucket = request.param(tmp_path / "root")
    return made


async def put(bucket: Bucket, tmp_path: Path, key: str, data: bytes, create: bool = False) -> str:
    with Spool(tmp_path / "staging") as spool:
        spool.append(data)
        return (await bucket.write(key, spool, create)).etag


async def read(bucket: Bucket, key: str, span: Span | None = None) -> bytes | None:
    opened = await bucket.open(key, span)
    if opened is None:
        return None
    try:
        return b"".join([chunk async for chunk in opened.chunks])
    finally:
        await opened.close()


@pytest.mark.parametrize("size", [0, 1, MEMORY_BYTES, 2 * MEMORY_BYTES + 3])
async def test_a_written_object_can_be_read(bucket: Bucket, tmp_path: Path, size: int) -> None:
    data = bytes(range(256)) * (size // 256 + 1)
    etag = await put(bucket, tmp_path, "a/b", data[:size])
    assert await read(bucket, "a/b") == data[:size]
    found = await bucket.head("a/b")
    assert found is not None
    assert (found.size, found.etag) == (size, etag)
    assert list((tmp_path / "staging").iterdir()) == []


async def test_spans_are_read_and_limited_to_the_object(bucket: Bucket, tmp_path: Path) -> None:
    await put(bucket, tmp_path, "a", b"0123456789")
    assert await read(bucket, "a", Span(2, 5)) == b"234"
    assert await read(bucket, "a", Span(8)) == b"89"
    assert await read(bucket, "a", Span(suffix=3)) == b"789"
    assert await read(bucket, "a", Span(5, 100)) == b"56789"
    with pytest.raises(S3Error) as error:
        await bucket.open("a", Span(10))
    assert error.value.code == "InvalidRange"


async def test_missing_objects_are_none_and_can_be_deleted(bucket: Bucket, tmp_path: Path) -> None:
    await put(bucket, tmp_path, "a/b", b"x")
    for key in ("b", "a", "a/c", "a/b/c"):
        assert await bucket.head(key) is None
        assert await read(bucket, key) is None
    for key in ("b", "a/c"):
        await bucket.delete(key)
    assert await read(bucket, "a/b") == b"x"


async def test_a_second_create_only_write_is_refused(bucket: Bucket, tmp_path: Path) -> None:
    for size in (1, 2 * MEMORY_BYTES):
        await put(bucket, tmp_path, f"{size}", bytes(size), create=True)
        with pytest.raises(S3Error) as error:
            await put(bucket, tmp_path, f"{size}", bytes(size), create=True)
        assert error.value.code == "PreconditionFailed"


async def test_an_open_object_stays_one_version(bucket: Bucket, tmp_path: Path) -> None:
    await put(bucket, tmp_path, "a", b"1" * 3_000_000)
    opened = await bucket.open("a", None)
    assert opened is not None
    first = await anext(opened.chunks)
    await put(bucket, tmp_path, "a", b"2" * 3_000_000)
    rest = b"".join([chunk async for chunk in opened.chunks])
    await opened.close()
    assert set(first + rest) == {ord("1")}


async def test_deleting_a_prefix_leaves_similar_prefixes(bucket: Bucket, tmp_path: Path) -> None:
    for key in ("a/1", "a/b/2", "ab/3", "c"):
        await put(bucket, tmp_path, key, b"1")
    assert (await bucket.measure("a/"))[0] == 2
    await bucket.delete_prefix("a/")
    await bucket.delete_prefix("a/")
    assert {found.key for found in (await bucket.scan(Query())).objects} == {"ab/3", "c"}


KEYS = st.lists(st.text("ab/-.0é", min_size=1, max_size=6).filter(lambda key: not key_problem(key)), max_size=12)


def expected(keys: list[str], prefix: str, delimiter: bool) -> list[str]:
    """Return what S3 lists, by its definition."""
    found = {key for key in keys if key.startswith(prefix)}
    if delimiter:
        cuts = {key: key.find("/", len(prefix)) for key in found}
        found = {key if cut < 0 else key[: cut + 1] for key, cut in cuts.items()}
    return sorted(found, key=str.encode)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(KEYS, st.text("ab/-.0é", max_size=3), st.booleans(), st.integers(1, 4))
async def test_listings_match_the_definition_of_s3(
    tmp_path_factory: pytest.TempPathFactory, keys: list[str], prefix: str, delimiter: bool, limit: int
) -> None:
    tmp_path = tmp_path_factory.mktemp("listing")
    (tmp_path / "staging").mkdir()
    (tmp_path / "root").mkdir()
    usable = [key for key in keys if not any(other.startswith(f"{key}/") for other in keys)]
    for bucket in (directory(tmp_path / "root"), memory(tmp_path)):
        for key in usable:
            await put(bucket, tmp_path, key, b"")
        query, listed = Query(prefix, delimiter, "", limit), []
        if "//" in prefix or prefix.startswith("/") or {".", ".."} & set(prefix.split("/")):
            return
        while True:
            page = await bucket.scan(query)
            items = [*(found.key for found in page.objects), *page.prefixes]
            assert len(items) <= limit
            listed += sorted(items, key=str.encode)
            if not page.more_after:
                break
            query = Query(prefix, delimiter, page.more_after, limit)
        assert listed == expected(usable, prefix, delimiter)
