"""`python -m benchmarks.storage`: starts a stack, launches one session, and uses its scratch with its own keys."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import boto3
import click
import obstore
from botocore.config import Config
from obstore.store import S3Store

from benchmarks.launch.__main__ import surroundings
from benchmarks.launch.clients import clients
from benchmarks.launch.stack import MeasuredStack, measured_stack
from benchmarks.launch.table import Series, Table, rows

_MIB = 2**20
_SMALL_BYTES = 4096

Step = Callable[[], object]


def _boto3(env: dict[str, str], key: str) -> tuple[Callable[[bytes], object], Callable[[], int]]:
    client = boto3.client(
        "s3",
        endpoint_url=env["AWS_ENDPOINT_URL"],
        aws_access_key_id=env["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=env["AWS_SECRET_ACCESS_KEY"],
        aws_session_token=env["AWS_SESSION_TOKEN"],
        region_name=env["AWS_REGION"],
        config=Config(s3={"addressing_style": "path"}),
    )
    bucket, _, prefix = env["SCRATCH_BUCKET"].removeprefix("s3://").partition("/")
    where = {"Bucket": bucket, "Key": f"{prefix}/{key}"}
    return lambda body: client.put_object(Body=body, **where), lambda: len(client.get_object(**where)["Body"].read())


def _obstore(env: dict[str, str], key: str) -> tuple[Callable[[bytes], object], Callable[[], int]]:
    store = S3Store.from_url(
        env["SCRATCH_BUCKET"],
        endpoint=env["AWS_ENDPOINT_URL"],
        access_key_id=env["AWS_ACCESS_KEY_ID"],
        secret_access_key=env["AWS_SECRET_ACCESS_KEY"],
        session_token=env["AWS_SESSION_TOKEN"],
        region=env["AWS_REGION"],
        client_options={"allow_http": True},
    )
    return lambda body: obstore.put(store, key, body), lambda: len(obstore.get(store, key).bytes())


def _file(key: str, folder: Path) -> tuple[Callable[[bytes], object], Callable[[], int]]:
    """Return functions that write and read a plain file, as the baseline of disk and Python."""
    path = folder / key
    return path.write_bytes, lambda: len(path.read_bytes())


def measure(env: dict[str, str], folder: Path, size: int, n: int) -> dict[str, list[float]]:
    """Return the seconds of `n` writes and reads of `size` bytes, with each client in turn."""
    key, body = f"object-{size}", os.urandom(size)
    implementations = {"boto3": _boto3(env, key), "obstore": _obstore(env, key), "a plain file": _file(key, folder)}
    series: Series = defaultdict(list)
    for number in range(n + 1):
        for name, (write, read) in implementations.items():
            for operation, step in (("write", lambda write=write: write(body)), ("read", read)):
                started = time.perf_counter()
                answer = step()
                seconds = time.perf_counter() - started
                assert operation == "write" or answer == size, f"{name} read {answer} of {size} bytes"
                if number:  # the first of each is a warm-up
                    series[f"{name}, {operation}"].append(seconds)
    return dict(series)


async def _session(stack: MeasuredStack) -> dict[str, str]:
    async with clients(stack) as both:
        run = await both.through_binder(stack.repositories.stored)
        return await asyncio.to_thread(stack.session_environment, run.user)


@click.command()
@click.option("--mebibytes", type=click.IntRange(1, 1024), default=64, show_default=True, help="Size of one object.")
@click.option("--times", type=click.IntRange(2, 100), default=10, show_default=True, help="Number of writes.")
def main(mebibytes: int, times: int) -> None:
    """Measure writes and reads through the S3 front."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))
    print(surroundings())
    with measured_stack() as stack, tempfile.TemporaryDirectory(prefix="pangeo-binder-benchmark-") as folder:
        env = asyncio.run(_session(stack))
        large = measure(env, Path(folder), mebibytes * _MIB, times)
        speeds = {name: [mebibytes / seconds for seconds in samples] for name, samples in large.items()}
        print(f"\n{Table(f'One object of {mebibytes} MiB', 'MiB per second', rows(speeds))}")
        small = measure(env, Path(folder), _SMALL_BYTES, 20 * times)
        print(f"\n{Table('One object of 4 KiB', 'milliseconds', rows(small, 1000))}")
    print(f"\nload average afterwards: {' '.join(f'{load:.1f}' for load in os.getloadavg())}")


if __name__ == "__main__":
    main()
