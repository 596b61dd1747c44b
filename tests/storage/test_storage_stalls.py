"""Every entry takes its largest allowed input and refuses the next one, and neither occupies the event loop.

Measured is the processor time of the loop's thread in one step, which other programs on the machine do not change.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from signal import SIGTERM
from urllib.parse import quote

import pytest

from pangeo_binder.model import CatalogueEntry, StorageGrant, to_wire
from tests.storage.process import PROGRAM, Answer, Process, Session, closing_client, in_thread, prefix_of, send_raw
from tests.storage.test_storage_body import DATA, Chunked

LONGEST_SECONDS = 0.05
MEASURED = (
    """
import asyncio, atexit, os, sys, time
longest = [0.0, ""]
run_step = asyncio.events.Handle._run
def measured(handle):
    started = time.thread_time()
    run_step(handle)
    seconds = time.thread_time() - started
    if seconds > longest[0]:
        longest[:] = [seconds, repr(handle)[:300]]
asyncio.events.Handle._run = measured
atexit.register(lambda: open(os.path.join(sys.argv[1], "longest"), "w").write(f"{longest[0]} {longest[1]}"))
"""
    + PROGRAM
)
MEBI = 1024 * 1024


@pytest.fixture
async def session(tmp_path: Path, grant: StorageGrant) -> AsyncIterator[Session]:
    """A launch of a process that measures its own event loop; fails if a step was too long."""
    process = Process(tmp_path / "state", MEASURED)
    await process.start()
    try:
        environment = await process.admin.issue(grant)
        with closing_client(environment) as client:
            yield Session(environment, client, prefix_of(environment))
        assert process.stop(SIGTERM) == 0
        seconds, _, step = (process.state / "longest").read_text().partition(" ")
        assert 0 < float(seconds) < LONGEST_SECONDS, step
    finally:
        process.end()


async def send(session: Session, method: str, path: str, body: bytes = b"", **headers: str) -> Answer:
    answer: Answer = await in_thread(lambda: send_raw(session.environment, method, path, body, **headers))
    return answer


def padded(start: bytes, end: bytes, size: int) -> bytes:
    return start + b" " * (size - len(start) - len(end)) + end


async def test_bulk_deletes(session: Session) -> None:
    async def code(body: bytes) -> bytes:
        answer = (await send(session, "POST", "/scratch?delete", body)).body
        return answer[:200]

    names = [f"{session.prefix}/{'/'.join([f'{number:04d}' * 60] * 4)}" for number in range(1000)]
    keys = "".join(f"<Object><Key>{name}</Key></Object>" for name in names)
    assert b"<Deleted>" in await code(padded(f"<Delete>{keys}".encode(), b"</Delete>", MEBI))
    assert b"EntityTooLarge" in await code(padded(f"<Delete>{keys}".encode(), b"</Delete>", MEBI + 1))
    one = b"<Object><Key>a</Key></Object>"
    assert b"MalformedXML" in await code(b"<Delete>" + one * 1001 + b"</Delete>")
    for filler in (b"<a/>", b"<a>", b"<Object><a/></Object>", b"&lt;", b"<a b='c'/>"):
        text = b"<Delete>" + filler * ((MEBI - 20) // len(filler)) + b"</Delete>"
        assert b"MalformedXML" in await code(text), filler
    attributes = b" ".join(b"a%d='b'" % number for number in range(70_000))
    assert b"MalformedXML" in await code(b"<Delete " + attributes + b"></Delete>")


async def test_completing_an_upload(session: Session) -> None:
    key = f"{session.prefix}/x"
    upload = (await session.do("create_multipart_upload", Key=key))["UploadId"]

    async def code(body: bytes) -> bytes:
        return (await send(session, "POST", f"/scratch/{key}?uploadId={upload}", body)).body[:400]

    sha256 = base64.b64encode(bytes(32)).decode()
    extra = f"<ETag>{'0' * 32}</ETag><ChecksumSHA256>{sha256}</ChecksumSHA256><ChecksumCRC32>AAAAAA==</ChecksumCRC32>"
    parts = "".join(f"<Part><PartNumber>{number}</PartNumber>{extra}</Part>" for number in range(1, 10_001))
    start, end = f"<CompleteMultipartUpload>{parts}".encode(), b"</CompleteMultipartUpload>"
    assert b"<Code>InvalidPart</Code>" in await code(padded(start, end, 4 * MEBI))
    assert b"<Code>EntityTooLarge</Code>" in await code(padded(start, end, 4 * MEBI + 1))


async def test_listings(session: Session) -> None:
    folder = "/".join(["é" * 120] * 3)
    names = [f"{session.prefix}/{folder}/{'é' * 100}{number:04d}" for number in range(1010)]
    for start in range(0, len(names), 32):
        await asyncio.gather(*(session.do("put_object", Key=name, Body=b"") for name in names[start : start + 32]))
    prefix = quote(f"{session.prefix}/", safe="")
    for version in ("list-type=2&encoding-type=url", "encoding-type=url", "list-type=2&fetch-owner=true"):
        answer = await send(session, "GET", f"/scratch?{version}&prefix={prefix}&max-keys=100000")
        assert answer.body.count(b"<Contents>") == 1000
        assert len(answer.body) > 900_000
    answer = await send(session, "GET", f"/scratch?list-type=2&prefix={prefix}&max-keys={'9' * 12}")
    assert b"InvalidArgument" in answer.body


async def test_keys_and_headers(session: Session) -> None:
    long = f"{session.prefix}/" + "/".join(["k" * 200] * 6)
    assert (await send(session, "PUT", f"/scratch/{long[:1024]}")).status == 200
    assert (await send(session, "PUT", f"/scratch/{long[:1025]}")).status == 400
    deep = f"{session.prefix}/" + "/".join("d" * 63)
    assert (await send(session, "PUT", f"/scratch/{deep}")).status == 200
    assert (await send(session, "PUT", f"/scratch/{deep}/d")).status == 400
    path = f"/scratch/{session.prefix}/x"
    assert (await send(session, "PUT", path, **{"x-amz-meta-a": "v" * 8000})).status == 200
    assert (await send(session, "PUT", path, **{"x-amz-meta-a": "v" * 9000})).status == 400
    many = {f"x-amz-meta-{number}": "v" for number in range(300)}
    assert (await send(session, "PUT", path, **dict(list(many.items())[:100]))).status == 200
    assert (await send(session, "PUT", path, **many)).status == 400
    assert (await send(session, "GET", f"{path}?{'&'.join(f'a{number}=' for number in range(1000))}")).status == 501
    assert (await send(session, "GET", f"{path}?{'a' * 9000}")).status == 400


@pytest.mark.parametrize("form", ["STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"])
async def test_bodies_in_the_smallest_chunks(session: Session, form: str) -> None:
    trailer = "x-amz-checksum-crc32:AAAA" if form.endswith("TRAILER") else ""
    tiny = Chunked(session, form, trailer, chunk=3)
    answer = await in_thread(lambda: tiny.send(size=len(DATA)))
    assert answer.status == (400 if trailer else 200), answer
    whole = Chunked(session, form.replace("-TRAILER", "") if not trailer else form, trailer, chunk=16 * MEBI)
    assert (await in_thread(lambda: whole.send(size=len(DATA)))).status == (400 if trailer else 200)


async def test_grants(session: Session, tmp_path: Path, grant: StorageGrant) -> None:
    process = Process(tmp_path / "other", MEASURED)
    await process.start()
    try:
        entries = tuple(CatalogueEntry(f"e{number}", f"s3://bucket-{number}/path") for number in range(2000))
        wire = to_wire(StorageGrant(1, 1, None, entries))
        text = json.dumps({"grant": wire, "owner": "a/", "expires_at": 4e9})
        limit = 256 * 1024
        assert len(text) < limit

        async def put(body: bytes) -> int:
            return (await process.admin.call("PUT", "/launches/a23456789012", data=body))[0]

        assert await put(text.encode().ljust(limit)) == 200
        assert await put(text.encode().ljust(limit + 1)) == 413
        assert await put(b"[" * limit) == 400
        assert await put(b'{"grant": ' + b'{"a":' * 40_000) == 400
        assert await put(text.replace("4000000000.0", "1" + "0" * 400).encode()) == 400
        assert process.stop(SIGTERM) == 0
        seconds, _, step = (process.state / "longest").read_text().partition(" ")
        assert 0 < float(seconds) < LONGEST_SECONDS, step
    finally:
        process.end()
