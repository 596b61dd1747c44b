"""Measures what one launch's listings cost another's reads, how soon the process answers, and its longest step.

Starts the storage process itself, without a hub. Not for the speed of single objects (`__main__`).
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import defaultdict
from multiprocessing import get_context
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import boto3
import click
import obstore
from botocore.config import Config
from obstore.store import S3Store

from benchmarks.launch.__main__ import conditions
from benchmarks.launch.table import Series, Table, rows
from pangeo_binder import names
from pangeo_binder.deploy.local.values import free_port

_PROGRAM = """
import asyncio, sys, time
from pathlib import Path
from pangeo_binder.storage.app import AdminCaller, Right, StorageSettings, run
run_step, longest = asyncio.events.Handle._run, [0.0]
def measured(handle):
    started = time.thread_time()
    run_step(handle)
    longest[0] = max(longest[0], time.thread_time() - started)
asyncio.events.Handle._run = measured
state, data, admin = sys.argv[1:]
ports = {"data_port": int(data), "admin_port": int(admin)}
run(StorageSettings(Path(state), f"http://127.0.0.1:{data}", "key", (AdminCaller("token", frozenset(Right)),), **ports))
(Path(state) / "longest").write_text(str(longest[0]))
"""
_GRANT = {"scratch_bytes": 50 << 30, "keep_seconds": 3600}
_READS = 100


class StorageProcess:
    """A storage process of its own, with its state in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.data, self.admin = folder, free_port(), free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> float:
        """Start it; return the seconds until `/health` answered."""
        began = time.perf_counter()
        ports = (str(self.data), str(self.admin))
        self._process = subprocess.Popen([sys.executable, "-c", _PROGRAM, str(self.folder), *ports])
        while True:
            try:
                self.call("GET", "/health")
                return time.perf_counter() - began
            except OSError:
                time.sleep(0.02)

    def stop(self) -> None:
        """Stop it if it runs."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()

    def kill(self) -> None:
        """Kill it, so that the next start trusts no count."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def longest_step(self) -> float:
        """Return the longest step of its event loop, in seconds of processor time, after a stop."""
        return float((self.folder / "longest").read_text())

    def call(self, method: str, path: str, body: object = None) -> Any:
        """Call the credentials API."""
        data = json.dumps(body).encode() if body is not None else None
        headers = {"Authorization": "Bearer token", "Content-Type": "application/json"}
        request = urllib.request.Request(f"http://127.0.0.1:{self.admin}{path}", data, headers, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read())

    def issue(self) -> dict[str, str]:
        """Issue a launch's credentials; return its variables."""
        body = {"grant": _GRANT, "owner": "a/", "expires_at": time.time() + 3600}
        environment: dict[str, str] = self.call("PUT", f"/launches/{names.new_launch_id()}", body)["environment"]
        return environment


def _client(environment: dict[str, str]) -> tuple[Any, str]:
    """Return an S3 client for issued variables, and the launch's prefix."""
    client = boto3.client(
        "s3",
        endpoint_url=environment["AWS_ENDPOINT_URL"],
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
        aws_session_token=environment["AWS_SESSION_TOKEN"],
        region_name=environment["AWS_REGION"],
        config=Config(s3={"addressing_style": "path"}),
    )
    return client, environment["SCRATCH_BUCKET"].removeprefix("s3://scratch/")


def _list_until(stop: Event, environment: dict[str, str], listings: Queue[float]) -> None:
    """List the launch's scratch again and again, with a client that costs little, in a process of its own."""
    store = S3Store.from_url(
        environment["SCRATCH_BUCKET"],
        endpoint=environment["AWS_ENDPOINT_URL"],
        access_key_id=environment["AWS_ACCESS_KEY_ID"],
        secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
        session_token=environment["AWS_SESSION_TOKEN"],
        region=environment["AWS_REGION"],
        client_options={"allow_http": True},
    )
    while not stop.is_set():
        began = time.perf_counter()
        for _ in obstore.list(store):
            if stop.is_set():
                return
        listings.put(time.perf_counter() - began)


def _reads(client: Any, key: str, series: list[float]) -> None:
    for _ in range(_READS):
        began = time.perf_counter()
        client.get_object(Bucket="scratch", Key=key)["Body"].read()
        series.append(time.perf_counter() - began)


def measure_neighbour(storage: StorageProcess, keys: int, listers: int) -> Table:
    """Return the seconds of reads of 4 KiB, alone and while another launch lists `keys` keys in a flat folder."""
    noisy, (quiet, prefix) = storage.issue(), _client(storage.issue())
    home = storage.folder / "objects" / noisy["SCRATCH_BUCKET"].removeprefix("s3://scratch/")
    home.mkdir()
    for number in range(keys):
        (home / f"{number:07d}").touch()
    key = f"{prefix}/object"
    quiet.put_object(Bucket="scratch", Key=key, Body=bytes(4096))
    series: Series = defaultdict(list)
    _reads(quiet, key, series["4 KiB read, alone"])
    spawn = get_context("spawn")
    stop, listings = spawn.Event(), spawn.Queue()
    processes = [spawn.Process(target=_list_until, args=(stop, noisy, listings)) for _ in range(listers)]
    for process in processes:
        process.start()
    series[f"one listing of {keys} keys, {listers} at once"] += [listings.get() for _ in range(listers)]
    _reads(quiet, key, series[f"4 KiB read, during {listers} listings"])
    stop.set()
    for process in processes:
        process.join()
    return Table("A noisy neighbour", "milliseconds", rows(series, 1000))


@click.command()
@click.option("--keys", type=click.IntRange(1000, 1_000_000), default=30_000, show_default=True, help="Keys to list.")
@click.option("--listers", type=click.IntRange(1, 64), default=8, show_default=True, help="Concurrent listings.")
def main(keys: int, listers: int) -> None:
    """Measure listings next to reads, the start after a kill, and the longest step of the event loop."""
    print(conditions())
    with tempfile.TemporaryDirectory(prefix="pangeo-binder-benchmark-") as folder:
        storage = StorageProcess(Path(folder))
        try:
            empty = storage.start()
            print(f"\n{measure_neighbour(storage, keys, listers)}")
            storage.stop()
            print(f"\nlongest step of the event loop: {1000 * storage.longest_step():.1f} ms of processor time")
            clean = storage.start()
            storage.kill()
            killed = storage.start()
            print(f"seconds until /health: empty {empty:.2f}, {keys} keys {clean:.2f}, after a kill {killed:.2f}")
        finally:
            storage.stop()


if __name__ == "__main__":
    main()
