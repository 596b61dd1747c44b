"""Attacks by a malicious session with its own credentials; each is refused."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from itertools import product
from pathlib import Path

import pytest

from tests.storage.process import (
    Session,
    Storage,
    closing_client,
    in_thread,
    prefix_of,
    refusal,
    send_raw,
    send_unsigned,
)


@pytest.fixture
async def victim(storage: Storage) -> AsyncIterator[Session]:
    """Another launch, with a secret on its scratch."""
    environment = await storage.admin.issue(storage.grant)
    with closing_client(environment) as client:
        other = Session(environment, client, prefix_of(environment))
        await other.do("put_object", Key=f"{other.prefix}/secret", Body=b"secret")
        yield other


async def test_objects_of_another_launch_are_refused(session: Session, victim: Session) -> None:
    key = f"{victim.prefix}/secret"
    for operation in ("get_object", "head_object", "delete_object", "create_multipart_upload"):
        assert (await refusal(session, operation, Key=key))[1] == 403
    assert (await refusal(session, "put_object", Key=key, Body=b"x"))[1] == 403
    source = {"Bucket": "scratch", "Key": key}
    assert (await refusal(session, "copy_object", Key=f"{session.prefix}/x", CopySource=source))[1] == 403
    assert await victim.read(Key=key) == b"secret"


@pytest.mark.parametrize("tail", ["", "/", "/secret"])
async def test_the_prefix_of_another_launch_cannot_be_listed(session: Session, victim: Session, tail: str) -> None:
    assert (await refusal(session, "list_objects_v2", Prefix=victim.prefix + tail))[1] == 403


async def test_the_root_and_partial_prefixes_cannot_be_listed(session: Session, victim: Session) -> None:
    for prefix in ("", session.prefix[:1], session.prefix[:-1], victim.prefix[:1]):
        for operation in ("list_objects_v2", "list_objects"):
            assert (await refusal(session, operation, Prefix=prefix))[1] == 403
            assert (await refusal(session, operation, Prefix=prefix, Delimiter="/"))[1] == 403


async def test_a_listing_of_the_bare_prefix_has_only_own_keys(session: Session, victim: Session) -> None:
    await session.do("put_object", Key=f"{session.prefix}/a", Body=b"")
    deep = await session.do("list_objects_v2", Prefix=session.prefix)
    assert [item["Key"] for item in deep["Contents"]] == [f"{session.prefix}/a"]
    rolled = await session.do("list_objects_v2", Prefix=session.prefix, Delimiter="/")
    assert [item["Prefix"] for item in rolled["CommonPrefixes"]] == [f"{session.prefix}/"]


async def test_an_upload_of_another_launch_cannot_be_used(session: Session, victim: Session) -> None:
    key = f"{victim.prefix}/big"
    upload = (await victim.do("create_multipart_upload", Key=key))["UploadId"]
    assert (await refusal(session, "upload_part", Key=key, UploadId=upload, PartNumber=1, Body=b"x"))[1] == 403
    own = {"Key": f"{session.prefix}/big", "UploadId": upload}
    assert (await refusal(session, "abort_multipart_upload", **own))[0] == "NoSuchUpload"


PATHS = [
    "/scratch/{mine}/../{other}/secret",
    "/scratch/{mine}/%2e%2e/{other}/secret",
    "/scratch/{mine}/..%2f{other}/secret",
    "/scratch/{mine}/%2E%2E%2F{other}%2Fsecret",
    "/scratch/{mine}//{other}/secret",
    "/scratch/{mine}/a%00",
    "/scratch/{mine}/a%0a",
    "/scratch/{mine}/%ff%fe",
    "/scratch//{other}/secret",
    "//scratch/{other}/secret",
    "/../scratch/{other}/secret",
    "/scratch/{mine}x/a",
    "/scratch%2f{other}/secret",
]


async def test_no_spelling_of_a_path_escapes_the_prefix(session: Session, victim: Session) -> None:
    for path, method in product(PATHS, ("GET", "PUT", "DELETE", "HEAD")):
        target = path.format(mine=session.prefix, other=victim.prefix)
        answer = await in_thread(lambda method=method, target=target: send_raw(session.environment, method, target))
        assert answer.status in (400, 403, 501), (method, path, answer)
    assert await victim.read(Key=f"{victim.prefix}/secret") == b"secret"


async def test_symbolic_links_are_not_followed(session: Session, storage: Storage, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    home = storage.settings.state_dir / "objects" / session.prefix
    home.mkdir()
    (home / "file").symlink_to(outside / "secret")
    (home / "folder").symlink_to(outside)
    os.mkfifo(home / "pipe")
    for name in ("file", "folder/secret", "pipe"):
        assert (await refusal(session, "get_object", Key=f"{session.prefix}/{name}"))[1] == 404
    assert (await session.do("list_objects_v2", Prefix=f"{session.prefix}/"))["KeyCount"] == 0
    assert (await refusal(session, "put_object", Key=f"{session.prefix}/folder/new", Body=b""))[1] == 400
    await session.do("put_object", Key=f"{session.prefix}/file", Body=b"mine")
    assert (outside / "secret").read_text() == "secret"
    assert [path.name for path in outside.iterdir()] == ["secret"]


UNKNOWN = ["acl", "policy", "tagging", "versions", "versionId=1", "torrent", "cors", "lifecycle", "website", "uploads"]


async def test_unknown_parameters_are_not_implemented(session: Session) -> None:
    paths = ("/scratch", f"/scratch/{session.prefix}/x")
    for path, method, parameter in product(paths, ("GET", "PUT", "DELETE"), UNKNOWN):
        target = f"{path}?{parameter}"
        answer = await in_thread(lambda method=method, target=target: send_raw(session.environment, method, target))
        assert answer.status == 501, (method, target, answer)
        assert b"not supported" in answer.body


async def test_buckets_cannot_be_created_or_deleted(session: Session) -> None:
    assert (await refusal(session, "create_bucket", Bucket="mine"))[1] == 501
    assert (await refusal(session, "delete_bucket"))[1] == 501


async def test_headers_with_costs_or_unsupported_features_are_refused(session: Session) -> None:
    key = {"Key": f"{session.prefix}/x"}
    assert await refusal(session, "get_object", **key, RequestPayer="requester") == ("AccessDenied", 403)
    assert (await refusal(session, "put_object", **key, Body=b"", ACL="public-read"))[1] == 501
    assert (await refusal(session, "put_object", **key, Body=b"", ServerSideEncryption="AES256"))[1] == 501
    assert (await refusal(session, "put_object", **key, Body=b"", Tagging="a=b"))[1] == 501


async def test_unsigned_and_incompletely_signed_requests_are_refused(session: Session) -> None:
    path = f"/scratch/{session.prefix}/x"
    answer = await in_thread(lambda: send_unsigned(session.environment, "GET", path))
    assert answer.status == 403
    assert b"Unsigned requests are refused" in answer.body
    without = session.environment | {"AWS_SESSION_TOKEN": ""}
    assert (await in_thread(lambda: send_raw(without, "GET", path))).status == 403
    foreign = session.environment | {"AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE"}
    assert (await in_thread(lambda: send_raw(foreign, "GET", path))).status == 403


async def test_keys_of_two_launches_cannot_be_combined(session: Session, victim: Session) -> None:
    path = f"/scratch/{victim.prefix}/secret"
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        mixed = session.environment | {name: victim.environment[name]}
        assert (await in_thread(lambda mixed=mixed: send_raw(mixed, "GET", path))).status == 403


BOMBS = [
    b'<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><Delete><Object><Key>&b;</Key></Object></Delete>',
    b'<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><Delete><Object><Key>&a;</Key></Object></Delete>',
    b"<Delete>" + b"<Object><Key>a</Key></Object>" * 1001 + b"</Delete>",
    b"<Delete></Delete>",
    b"<Other/>",
    b"not xml",
    b"",
]


async def test_invalid_bulk_delete_documents_are_refused(session: Session) -> None:
    for body in BOMBS:
        answer = await in_thread(lambda body=body: send_raw(session.environment, "POST", "/scratch?delete", body))
        assert answer.status == 400
        assert b"<Code>MalformedXML</Code>" in answer.body


async def test_documents_have_a_maximum_size(session: Session) -> None:
    body = b"<Delete>" + b" " * 1024 * 1024 + b"</Delete>"
    answer = await in_thread(lambda: send_raw(session.environment, "POST", "/scratch?delete", body))
    assert b"<Code>EntityTooLarge</Code>" in answer.body


async def test_the_credentials_api_is_not_on_the_data_port(session: Session) -> None:
    for path in ("/launches", "/metrics", "/health", f"/launches/{session.prefix}"):
        answer = await in_thread(lambda path=path: send_unsigned(session.environment, "GET", path))
        assert answer.status == 403


async def test_the_log_has_no_secrets(session: Session, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), caplog.at_level(logging.DEBUG, logger="pangeo_binder"):
        key = f"{session.prefix}/x"
        await session.do("put_object", Key=key, Body=b"x")
        link = session.client.generate_presigned_url("get_object", {"Bucket": "scratch", "Key": key})
        path = link.removeprefix(session.environment["AWS_ENDPOINT_URL"])
        assert (await in_thread(lambda: send_unsigned(session.environment, "GET", path))).body == b"x"
        await asyncio.sleep(0)
    assert "GetObject" in caplog.text
    for name in ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        assert session.environment[name] not in caplog.text
    assert "Signature" not in caplog.text
