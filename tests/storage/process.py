"""Starts the servers of the storage process, and calls them as the hub and as a session do."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import boto3
import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from pangeo_binder import names
from pangeo_binder.deploy.local.values import free_port
from pangeo_binder.model import CatalogueEntry, StorageGrant, to_wire
from pangeo_binder.storage.app import AdminCaller, Right, StorageRunner, StorageSettings
from pangeo_binder.storage.durable import Durability

ADMIN_TOKEN = "admin-token-for-tests"
ISSUE_TOKEN, ENVIRONMENT_TOKEN, LOOK_TOKEN = "issue-for-tests", "environment-for-tests", "look-for-tests"
OWNER = "ada-repo/"


def make_settings(state_dir: Path, **changes: Any) -> StorageSettings:
    port = free_port()
    settings = StorageSettings(
        durability=Durability.NONE,  # thousands of small writes; tests of a kill run the process with its default
        keepalive_seconds=0.2,
        state_dir=state_dir,
        public_endpoint=f"http://127.0.0.1:{port}",
        master_key="master-key-for-tests",
        admin_callers=(
            AdminCaller(ENVIRONMENT_TOKEN, frozenset({Right.ENVIRONMENT})),
            AdminCaller(LOOK_TOKEN, frozenset({Right.LOOK})),
            AdminCaller(ADMIN_TOKEN, frozenset(Right)),
            AdminCaller(ISSUE_TOKEN, frozenset({Right.ISSUE})),
        ),
        data_port=port,
        admin_port=0,
        reap_seconds=3600,
    )
    return replace(settings, **changes)


@dataclass(frozen=True)
class Answer:
    """An HTTP response."""

    status: int
    headers: dict[str, str]
    body: bytes


def send_raw(environment: dict[str, str], method: str, path: str, body: bytes = b"", **headers: str) -> Answer:
    """Sign and send a request with exactly the given path and query; underscores in header names become dashes."""
    url = urlsplit(environment["AWS_ENDPOINT_URL"])
    keys = (environment["AWS_ACCESS_KEY_ID"], environment["AWS_SECRET_ACCESS_KEY"], environment["AWS_SESSION_TOKEN"])
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = AWSRequest(method, f"http://{url.netloc}{path}", headers=named, data=body)
    S3SigV4Auth(Credentials(*keys), "s3", environment["AWS_REGION"]).add_auth(request)
    return send_unsigned(environment, method, path, body, **dict(request.headers.items()))


def send_unsigned(environment: dict[str, str], method: str, path: str, body: bytes = b"", **headers: str) -> Answer:
    """Send a request without adding any headers."""
    connection = HTTPConnection(urlsplit(environment["AWS_ENDPOINT_URL"]).netloc, timeout=30)
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return Answer(answer.status, {k.lower(): v for k, v in answer.headers.items()}, answer.read())
    finally:
        connection.close()


CLIENTS = ThreadPoolExecutor(32)


async def in_thread(call: Callable[[], Any]) -> Any:
    """Run a blocking client in a separate thread pool: the tested server uses this loop and its default threads."""
    return await asyncio.get_running_loop().run_in_executor(CLIENTS, call)


@dataclass(frozen=True)
class Admin:
    """A client of the credentials API."""

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

    async def issue(
        self, grant: StorageGrant, launch_id: str = "", owner: str = OWNER, seconds: float = 3600
    ) -> dict[str, str]:
        body = {"grant": to_wire(grant), "expires_at": time.time() + seconds, "owner": owner}
        status, answer = await self.call("PUT", f"/launches/{launch_id or names.new_launch_id()}", json=body)
        assert status == 200, answer
        return dict(answer["environment"])


@dataclass(frozen=True)
class Storage:
    """A running storage process with its credentials API."""

    settings: StorageSettings
    runner: StorageRunner
    admin: Admin
    dataset: CatalogueEntry
    grant: StorageGrant


def s3_client(environment: dict[str, str], **changes: Any) -> Any:
    """Return a boto3 client for issued environment variables, without changing this process's environment."""
    config = {"retries": {"max_attempts": 1}, "signature_version": "s3v4", "s3": {"addressing_style": "path"}}
    session = boto3.session.Session(
        environment["AWS_ACCESS_KEY_ID"],
        environment["AWS_SECRET_ACCESS_KEY"],
        environment["AWS_SESSION_TOKEN"],
        environment["AWS_REGION"],
    )
    return session.client("s3", endpoint_url=environment["AWS_ENDPOINT_URL"], config=Config(**config | changes))


def prefix_of(environment: dict[str, str]) -> str:
    """Return the launch's prefix, without a slash."""
    return environment["SCRATCH_BUCKET"].removeprefix("s3://scratch/")


def session_environment(environment: dict[str, str]) -> dict[str, str]:
    """Return a session's environment: this process's without AWS variables, plus the issued ones."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return kept | environment


@contextmanager
def closing_client(environment: dict[str, str], **changes: Any) -> Iterator[Any]:
    client = s3_client(environment, **changes)
    try:
        yield client
    finally:
        client.close()


@dataclass(frozen=True)
class Session:
    """One launch from the view of its own code."""

    environment: dict[str, str]
    client: Any
    prefix: str

    async def do(self, operation: str, **arguments: Any) -> Any:
        """Call boto3; the default bucket is scratch."""
        call: Callable[..., Any] = getattr(self.client, operation)
        return await in_thread(lambda: call(**{"Bucket": "scratch"} | arguments))

    async def read(self, **arguments: Any) -> bytes:
        """Return an object's content."""

        def get() -> bytes:
            return bytes(self.client.get_object(**{"Bucket": "scratch"} | arguments)["Body"].read())

        return await in_thread(get)


async def refusal(session: Session, operation: str, **arguments: Any) -> tuple[str, int]:
    """Return the error code and status with which a call is refused."""
    with pytest.raises(ClientError) as error:
        await session.do(operation, **arguments)
    answer = error.value.response
    return answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"]


PROGRAM = """
import sys
from pathlib import Path
from pangeo_binder.storage.app import AdminCaller, Right, StorageSettings, run
state, data, admin, token = sys.argv[1:]
ports = {"data_port": int(data), "admin_port": int(admin)}
run(StorageSettings(Path(state), f"http://127.0.0.1:{data}", "key", (AdminCaller(token, frozenset(Right)),), **ports))
"""


class Process:
    """The storage process, run as an operator does."""

    def __init__(self, state: Path, program: str = PROGRAM) -> None:
        self.program = program
        self.state, self.data, self.port = state, free_port(), free_port()
        self.admin = Admin(f"http://127.0.0.1:{self.port}")
        self.process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        command = [sys.executable, "-c", self.program, str(self.state), str(self.data), str(self.port), ADMIN_TOKEN]
        self.process = subprocess.Popen(command)  # noqa: ASYNC220
        for _ in range(300):
            try:
                await self.admin.call("GET", "/health")
                return
            except aiohttp.ClientError:
                await asyncio.sleep(0.1)
        raise AssertionError("the storage process did not start")

    def stop(self, number: signal.Signals) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(30)

    def end(self) -> None:
        """Kill the process if it runs."""
        if self.process is not None and self.process.poll() is None:
            self.stop(signal.SIGKILL)
