"""A launch's storage from issuing to pruning: over HTTP, after a kill, and with a hub that does not answer."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from pangeo_binder import names
from pangeo_binder.liveness import HubIsAlive
from pangeo_binder.model import CatalogueEntry, StorageGrant, to_wire
from pangeo_binder.storage.app import AdminCaller, StorageSettings, serve
from tests.storage.process import (
    ADMIN_TOKEN,
    ENVIRONMENT_TOKEN,
    ISSUE_TOKEN,
    LOOK_TOKEN,
    OWNER,
    Admin,
    Process,
    Session,
    Storage,
    closing_client,
    free_port,
    in_thread,
    make_settings,
    prefix_of,
    refusal,
    send_raw,
)


def body(grant: StorageGrant, **changes: Any) -> dict[str, Any]:
    return {"grant": to_wire(grant), "expires_at": time.time() + 3600, "owner": OWNER} | changes


async def test_issuing_again_gives_the_same_keys(storage: Storage) -> None:
    launch_id = names.new_launch_id()
    first = await storage.admin.issue(storage.grant, launch_id)
    assert await storage.admin.issue(storage.grant, launch_id) == first
    assert first["SCRATCH_BUCKET"] == first["PANGEO_SCRATCH"] == f"s3://scratch/{launch_id}"


async def test_a_revoked_launch_cannot_be_granted_again(storage: Storage) -> None:
    path = f"/launches/{names.new_launch_id()}"
    assert (await storage.admin.call("PUT", path, json=body(storage.grant)))[0] == 200
    assert (await storage.admin.call("DELETE", path))[0] == 204
    assert (await storage.admin.call("DELETE", path))[0] == 204
    status, answer = await storage.admin.call("PUT", path, json=body(storage.grant))
    assert status == 409
    assert answer["error"] == "This launch's storage was revoked and cannot be granted again."


async def test_a_launch_cannot_be_granted_to_another_owner(storage: Storage) -> None:
    path = f"/launches/{names.new_launch_id()}"
    await storage.admin.call("PUT", path, json=body(storage.grant))
    assert (await storage.admin.call("PUT", path, json=body(storage.grant, owner="eve/")))[0] == 409


async def test_the_credentials_api_needs_one_of_its_tokens(storage: Storage) -> None:
    for token in ("", "wrong", "\u00e9"):
        stranger = replace(storage.admin, token=token)
        assert (await stranger.call("GET", "/launches"))[0] == 401
        assert (await stranger.call("PUT", "/launches/a23456789012", json=body(storage.grant)))[0] == 401
        assert (await stranger.call("DELETE", "/launches/a23456789012"))[0] == 401
        assert (await stranger.call("GET", "/health"))[0] == 200


BAD = [{}, {"grant": {}}, {"owner": "a/"}, [], "x", {"grant": None, "owner": "a/", "expires_at": 1}]


async def test_invalid_grant_requests_are_refused_with_a_sentence(storage: Storage) -> None:
    path = f"/launches/{names.new_launch_id()}"
    http = replace(storage.grant, read=(CatalogueEntry("x", "http://host/"),))
    for wrong in (*BAD, body(storage.grant, expires_at="NaN"), body(http)):
        status, answer = await storage.admin.call("PUT", path, json=wrong)
        assert status == 400
        assert answer["error"].endswith(".")
    assert (await storage.admin.call("PUT", "/launches/UPPER", json=body(storage.grant)))[0] == 400
    assert (await storage.admin.call("GET", path))[0] == 404


async def test_usage_can_be_read(storage: Storage, session: Session) -> None:
    await session.do("put_object", Key=f"{session.prefix}/x", Body=b"12345")
    await session.read(Key=f"{session.prefix}/x")
    status, about = await storage.admin.call("GET", f"/launches/{session.prefix}")
    assert status == 200
    assert (about["owner"], about["used_bytes"], about["egress_bytes"], about["revoked"]) == (OWNER, 5, 5, False)
    assert (await storage.admin.call("GET", "/launches"))[1] == {"launches": [about]}
    metrics = (await storage.admin.call("GET", "/metrics"))[1]
    assert 'pangeo_binder_storage_requests_total{operation="GetObject",status="200"}' in metrics
    assert session.environment["AWS_SECRET_ACCESS_KEY"] not in json.dumps(about) + metrics


async def test_revoking_invalidates_the_credentials_at_once(storage: Storage, session: Session) -> None:
    await session.do("put_object", Key=f"{session.prefix}/x", Body=b"1")
    upload = (await session.do("create_multipart_upload", Key=f"{session.prefix}/y"))["UploadId"]
    await session.do("upload_part", Key=f"{session.prefix}/y", UploadId=upload, PartNumber=1, Body=b"2" * 100)
    await storage.admin.call("DELETE", f"/launches/{session.prefix}")
    assert await refusal(session, "get_object", Key=f"{session.prefix}/x") == ("AccessDenied", 403)
    assert (await refusal(session, "get_object", Bucket="cmip6", Key="readme.txt"))[1] == 403
    about = (await storage.admin.call("GET", f"/launches/{session.prefix}"))[1]
    assert (about["revoked"], about["used_bytes"], about["pruned"]) == (True, 1, False)
    assert not (storage.settings.state_dir / "uploads" / session.prefix).exists()


async def test_expired_launches_are_refused_and_then_revoked(storage: Storage) -> None:
    environment = await storage.admin.issue(storage.grant, seconds=-1)
    path = f"/scratch/{prefix_of(environment)}/x"
    assert (await in_thread(lambda: send_raw(environment, "GET", path))).status == 403
    await storage.runner.service.tick(time.time())
    assert (await storage.admin.call("GET", f"/launches/{prefix_of(environment)}"))[1]["revoked"]


async def test_revoking_aborts_a_running_download(storage: Storage, session: Session) -> None:
    key, size = f"{session.prefix}/big", 64 * 1024 * 1024
    await session.do("put_object", Key=key, Body=bytes(size))
    link = session.client.generate_presigned_url("get_object", {"Bucket": "scratch", "Key": key})
    async with aiohttp.ClientSession() as http, http.get(link) as answer:
        await answer.content.readexactly(1000)
        await storage.admin.call("DELETE", f"/launches/{session.prefix}")
        with pytest.raises(aiohttp.ClientError):
            await answer.read()
    launch = storage.runner.service.table.get(session.prefix)
    assert launch is not None
    assert launch.usage.egress < size


async def test_revoking_aborts_a_running_upload(storage: Storage, session: Session) -> None:
    key = f"{session.prefix}/big"
    link = session.client.generate_presigned_url("put_object", {"Bucket": "scratch", "Key": key})

    async def slow() -> AsyncIterator[bytes]:
        yield bytes(3_000_000)
        await storage.admin.call("DELETE", f"/launches/{session.prefix}")
        await asyncio.sleep(60)

    async with aiohttp.ClientSession() as http:
        with pytest.raises(aiohttp.ClientError):
            await http.put(link, data=slow(), headers={"Content-Length": "9000000"})
    assert list((storage.settings.state_dir / "staging").iterdir()) == []


async def test_scratch_is_kept_for_the_granted_time(storage: Storage) -> None:
    environment = await storage.admin.issue(replace(storage.grant, keep_seconds=100))
    with closing_client(environment) as client:
        session = Session(environment, client, prefix_of(environment))
        await session.do("put_object", Key=f"{session.prefix}/a/b", Body=b"1")
    home, now = storage.settings.state_dir / "objects" / session.prefix, time.time()
    await storage.runner.service.tick(now + 50)
    await storage.admin.call("DELETE", f"/launches/{session.prefix}")
    await storage.runner.service.tick(now + 50)
    assert (home / "a" / "b").exists()
    await storage.runner.service.tick(now + 200)
    assert not home.exists()
    about = (await storage.admin.call("GET", f"/launches/{session.prefix}"))[1]
    assert (about["pruned"], about["used_bytes"]) == (True, 0)


async def test_scratch_without_a_keep_time_is_removed_at_revocation(storage: Storage) -> None:
    environment = await storage.admin.issue(replace(storage.grant, keep_seconds=0))
    home = storage.settings.state_dir / "objects" / prefix_of(environment)
    home.mkdir()
    (home / "x").write_bytes(b"1")
    await storage.admin.call("DELETE", f"/launches/{prefix_of(environment)}")
    assert not home.exists()


@pytest.mark.parametrize(
    ("answers", "ends"), [([False, False], True), ([False, True, False], False), ([None] * 3, False)]
)
async def test_a_launch_is_revoked_if_its_server_is_missing_twice(
    tmp_path: Path, grant: StorageGrant, answers: list[bool | None], ends: bool
) -> None:
    asked: list[str] = []

    async def is_alive(owner: str) -> bool | None:
        asked.append(owner)
        return answers[len(asked) - 1]

    runner = await serve(make_settings(tmp_path / "state"), is_alive)
    try:
        environment = await Admin(f"http://127.0.0.1:{runner.admin_port}").issue(grant)
        await runner.service.tick(time.time() + 10)
        assert asked == []
        for _ in answers:
            await runner.service.tick(time.time() + 100)
        launch = runner.service.table.get(prefix_of(environment))
        assert launch is not None
        assert (launch.revoked_at is not None, asked) == (ends, [OWNER] * len(answers))
    finally:
        await runner.cleanup()


@asynccontextmanager
async def hub_answering(status: int, text: str) -> AsyncIterator[str]:
    """Serve the given answer at JupyterHub's API path for a server."""

    async def answer(request: web.Request) -> web.Response:
        assert request.headers["Authorization"] == "token hub-token"
        assert request.raw_path == "/hub/api/users/ada@x/servers/"
        return web.Response(status=status, text=text, content_type="application/json")

    app = web.Application()
    app.router.add_get("/hub/api/users/{name}/servers/", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port := free_port()).start()
    try:
        yield f"http://127.0.0.1:{port}/hub/api"
    finally:
        await runner.cleanup()


HUB_ANSWERS = [
    (200, '{"ready": true, "stopped": false}', True),
    (200, '{"ready": false, "pending": "spawn", "stopped": false}', True),
    (200, '{"ready": false, "stopped": true}', False),
    (404, "{}", False),
    (200, "{}", None),
    (200, "not json", None),
    (200, "[]", None),
    (403, "{}", None),
    (503, "", None),
]


@pytest.mark.parametrize(("status", "text", "alive"), HUB_ANSWERS)
async def test_liveness_follows_the_hubs_answer(status: int, text: str, alive: bool | None) -> None:
    async with hub_answering(status, text) as url:
        assert await HubIsAlive(url, "hub-token")("ada@x/") is alive


async def test_liveness_is_unknown_without_a_hub() -> None:
    assert await HubIsAlive(f"http://127.0.0.1:{free_port()}/hub/api", "hub-token")("ada/") is None


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    process = Process(tmp_path / "state")
    yield process
    process.end()


async def test_a_killed_process_restores_its_state(process: Process, grant: StorageGrant) -> None:
    await process.start()
    environment, gone = await process.admin.issue(grant), await process.admin.issue(replace(grant, keep_seconds=1))
    with closing_client(environment) as client, closing_client(gone) as other:
        session = Session(environment, client, prefix_of(environment))
        await session.do("put_object", Key=f"{session.prefix}/x", Body=b"12345")
        await Session(gone, other, prefix_of(gone)).do("put_object", Key=f"{prefix_of(gone)}/x", Body=b"1")
        await process.admin.call("DELETE", f"/launches/{prefix_of(gone)}")
        process.stop(signal.SIGKILL)
        (process.state / "staging" / ("0" * 24)).write_bytes(b"half an upload")
        await asyncio.sleep(1.1)
        await process.start()
        assert await session.read(Key=f"{session.prefix}/x") == b"12345"
    assert (await process.admin.call("GET", f"/launches/{session.prefix}"))[1]["used_bytes"] == 5
    assert not (process.state / "objects" / prefix_of(gone)).exists()
    assert (await process.admin.call("PUT", f"/launches/{prefix_of(gone)}", json=body(grant)))[0] == 409
    assert list((process.state / "staging").iterdir()) == []


async def test_the_process_ends_on_sigterm_and_keeps_its_state_private(process: Process, grant: StorageGrant) -> None:
    await process.start()
    environment = await process.admin.issue(grant)
    table = process.state / "launches.json"
    assert table.stat().st_mode & 0o777 == 0o600
    assert process.state.stat().st_mode & 0o777 == 0o700
    for name in ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        assert environment[name] not in table.read_text()
    assert process.stop(signal.SIGTERM) == 0


@pytest.mark.parametrize(
    "missing", [{"master_key": ""}, {"admin_callers": ()}, {"admin_callers": (AdminCaller("", frozenset()),)}]
)
async def test_the_process_does_not_start_without_its_secrets(tmp_path: Path, missing: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="master key"):
        await serve(make_settings(tmp_path / "state", **missing))


RIGHTS = {
    ADMIN_TOKEN: {"issue", "environment", "look"},
    ISSUE_TOKEN: {"issue"},
    ENVIRONMENT_TOKEN: {"environment"},
    LOOK_TOKEN: {"look"},
}


@pytest.mark.parametrize("token", RIGHTS)
async def test_each_caller_has_only_its_own_rights(storage: Storage, token: str) -> None:
    id_ = names.new_launch_id()
    await storage.admin.issue(storage.grant, id_)
    caller = Admin(storage.admin.url, token)
    asked = {
        "issue": await caller.call("PUT", f"/launches/{id_}", json=body(storage.grant)),
        "environment": await caller.call("GET", f"/launches/{id_}/environment"),
        "look": await caller.call("GET", "/launches"),
    }
    assert {part for part, (status, _) in asked.items() if status == 200} == RIGHTS[token]
    assert {status for status, _ in asked.values()} <= {200, 403}


async def test_the_environment_can_be_read_until_the_launch_ends(storage: Storage) -> None:
    id_ = names.new_launch_id()
    environment = await storage.admin.issue(storage.grant, id_)
    assert await storage.admin.call("GET", f"/launches/{id_}/environment") == (200, {"environment": environment})
    await storage.admin.call("DELETE", f"/launches/{id_}")
    assert (await storage.admin.call("GET", f"/launches/{id_}/environment"))[0] == 404


def test_the_repr_of_settings_has_no_secrets() -> None:
    settings = StorageSettings(
        Path(os.devnull),
        "http://x",
        "the-master-key",
        (AdminCaller("the-token", frozenset()),),
        hub_api_token="hub-token",
    )
    assert not any(secret in repr(settings) for secret in ("the-master-key", "the-token", "hub-token"))
