"""A real storage process's servers in this event loop, and what tests need to talk to them."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp
import boto3
import pytest
from botocore.config import Config

from pangeo_binder import names
from pangeo_binder.model import CatalogueEntry, StorageGrant, to_wire
from pangeo_binder.storage.app import StorageRunner, StorageSettings, serve

ADMIN_TOKEN = "admin-token-for-tests"
OWNER = "ada-repo/"


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def make_settings(state_dir: Path, **changes: Any) -> StorageSettings:
    port = free_port()
    settings = StorageSettings(
        state_dir=state_dir,
        public_endpoint=f"http://127.0.0.1:{port}",
        master_key="master-key-for-tests",
        admin_tokens=("another-token", ADMIN_TOKEN),
        data_port=port,
        admin_port=0,
        reap_seconds=3600,
    )
    return replace(settings, **changes)


@dataclass(frozen=True)
class Admin:
    """A client of the vending API."""

    url: str
    token: str = ADMIN_TOKEN

    async def call(self, method: str, path: str, **options: Any) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {self.token}"}
        async with (
            aiohttp.ClientSession(headers=headers) as session,
            session.request(method, self.url + path, **options) as answer,
        ):
            is_json = answer.content_type == "application/json"
            return answer.status, await answer.json() if is_json else await answer.text()

    async def vend(
        self, grant: StorageGrant, launch_id: str = "", owner: str = OWNER, seconds: float = 3600
    ) -> dict[str, str]:
        body = {"grant": to_wire(grant), "expires_at": time.time() + seconds, "owner": owner}
        status, answer = await self.call("PUT", f"/launches/{launch_id or names.new_launch_id()}", json=body)
        assert status == 200, answer
        return dict(answer["environment"])


@dataclass(frozen=True)
class Storage:
    """A running storage process with its vending API."""

    settings: StorageSettings
    runner: StorageRunner
    admin: Admin
    dataset: CatalogueEntry
    grant: StorageGrant


@pytest.fixture
def dataset(tmp_path: Path) -> CatalogueEntry:
    """A data set of the operator's, in a directory."""
    folder = tmp_path / "cmip6"
    (folder / "tas").mkdir(parents=True)
    (folder / "tas" / "1.bin").write_bytes(b"warm" * 1000)
    (folder / "readme.txt").write_text("hello")
    return CatalogueEntry("cmip6", folder.as_uri())


@pytest.fixture
def grant(dataset: CatalogueEntry) -> StorageGrant:
    return StorageGrant(scratch_bytes=200_000_000, keep_seconds=3600, egress_bytes=None, read=(dataset,))


@pytest.fixture
async def storage(tmp_path: Path, dataset: CatalogueEntry, grant: StorageGrant) -> AsyncIterator[Storage]:
    settings = make_settings(tmp_path / "state")
    runner = await serve(settings)
    try:
        yield Storage(settings, runner, Admin(f"http://127.0.0.1:{runner.admin_port}"), dataset, grant)
    finally:
        await runner.cleanup()


def s3_client(environment: dict[str, str], **changes: Any) -> Any:
    """A boto3 client from a vended environment, without touching this process's own."""
    config = {"retries": {"max_attempts": 1}, "signature_version": "s3v4", "s3": {"addressing_style": "path"}}
    session = boto3.session.Session(
        environment["AWS_ACCESS_KEY_ID"],
        environment["AWS_SECRET_ACCESS_KEY"],
        environment["AWS_SESSION_TOKEN"],
        environment["AWS_REGION"],
    )
    return session.client("s3", endpoint_url=environment["AWS_ENDPOINT_URL"], config=Config(**config | changes))


def prefix_of(environment: dict[str, str]) -> str:
    """The launch's own prefix, without a slash."""
    return environment["SCRATCH_BUCKET"].removeprefix("s3://scratch/")


def session_environment(environment: dict[str, str]) -> dict[str, str]:
    """The environment of a session: this one without anything of AWS's, and what was vended."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return kept | environment


@contextmanager
def closing_client(environment: dict[str, str], **changes: Any) -> Iterator[Any]:
    client = s3_client(environment, **changes)
    try:
        yield client
    finally:
        client.close()


@pytest.fixture
async def session(storage: Storage) -> AsyncIterator["Session"]:
    environment = await storage.admin.vend(storage.grant)
    with closing_client(environment) as client:
        yield Session(environment, client, prefix_of(environment))


@dataclass(frozen=True)
class Session:
    """One launch as its own code sees it."""

    environment: dict[str, str]
    client: Any
    prefix: str

    async def do(self, operation: str, **arguments: Any) -> Any:
        """Call boto3 in a thread, since the server runs in this loop; the bucket is scratch if none is named."""
        call: Callable[..., Any] = getattr(self.client, operation)
        return await asyncio.to_thread(call, **{"Bucket": "scratch"} | arguments)
