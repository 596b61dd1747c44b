"""Popular S3 libraries, each in a separate process that gets only the issued environment variables."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from tests.storage.process import Session, Storage, session_environment

SCRIPTS = {
    "boto3": """
        import boto3, io, os, urllib.request
        s3 = boto3.client("s3")
        bucket, prefix = os.environ["SCRATCH_BUCKET"].removeprefix("s3://").split("/")
        s3.upload_fileobj(io.BytesIO(bytes(20_000_000)), bucket, f"{prefix}/big")
        s3.copy({"Bucket": bucket, "Key": f"{prefix}/big"}, bucket, f"{prefix}/copy")
        out = io.BytesIO(); s3.download_fileobj(bucket, f"{prefix}/copy", out)
        assert len(out.getvalue()) == 20_000_000
        s3.put_object(Bucket=bucket, Key=f"{prefix}/a b+c", Body=b"text")
        link = s3.generate_presigned_url("get_object", {"Bucket": bucket, "Key": f"{prefix}/a b+c"})
        assert urllib.request.urlopen(link).read() == b"text"
        assert s3.get_object(Bucket="cmip6", Key="readme.txt")["Body"].read() == b"hello"
    """,
    "s3fs": """
        import os, s3fs
        fs, scratch = s3fs.S3FileSystem(), os.environ["SCRATCH_BUCKET"]
        assert not fs.exists(scratch)
        fs.makedirs(f"{scratch}/folder", exist_ok=True)
        with fs.open(f"{scratch}/folder/big", "wb", block_size=5 * 2**20) as file:
            file.write(bytes(12_000_000))
        fs.pipe(f"{scratch}/folder/small", b"text")
        assert fs.exists(scratch) and fs.isdir(f"{scratch}/folder") and fs.isfile(f"{scratch}/folder/small")
        assert [path.rsplit("/", 1)[1] for path in fs.ls(f"{scratch}/folder")] == ["big", "small"]
        assert len(fs.cat(f"{scratch}/folder/big")) == 12_000_000
        assert fs.cat_file(f"{scratch}/folder/small", start=1, end=3) == b"ex"
        fs.cp(f"{scratch}/folder/small", f"{scratch}/other"); fs.mv(f"{scratch}/other", f"{scratch}/moved")
        assert len(fs.glob(f"{scratch}/**")) >= 3
        assert fs.cat("s3://cmip6/readme.txt") == b"hello"
        assert fs.find("s3://cmip6") == ["cmip6/readme.txt", "cmip6/tas/1.bin"]
        try:
            fs.pipe("s3://cmip6/x", b""); raise SystemExit("wrote to the catalogue")
        except PermissionError as error:
            assert "read only" in str(error)
        try:
            fs.cat(f"{scratch}/missing"); raise SystemExit("read a missing object")
        except FileNotFoundError:
            pass
        fs.rm(f"{scratch}/folder", recursive=True)
        assert fs.find(scratch) == [scratch.removeprefix("s3://") + "/moved"]
    """,
    "obstore": """
        import os, obstore
        from obstore.store import from_url
        store = from_url(os.environ["SCRATCH_BUCKET"])
        obstore.put(store, "a", b"one", mode="create")
        try:
            obstore.put(store, "a", b"two", mode="create"); raise SystemExit("created twice")
        except obstore.exceptions.AlreadyExistsError:
            pass
        etag = obstore.head(store, "a")["e_tag"]
        obstore.put(store, "a", b"two", mode={"e_tag": etag})
        try:
            obstore.put(store, "a", b"three", mode={"e_tag": etag}); raise SystemExit("updated twice")
        except obstore.exceptions.PreconditionError:
            pass
        obstore.put(store, "d/big", bytes(12_000_000)); obstore.copy(store, "d/big", "d/copy")
        assert len(obstore.get(store, "d/copy").bytes()) == 12_000_000
        assert bytes(obstore.get_range(store, "a", start=1, end=3)) == b"wo"
        assert [meta["path"] for meta in obstore.list(store).collect()] == ["a", "d/big", "d/copy"]
        obstore.delete(store, ["a", "d/big"])
        assert obstore.list_with_delimiter(store)["common_prefixes"] == ["d"]
        assert bytes(obstore.get(from_url("s3://cmip6"), "readme.txt").bytes()) == b"hello"
    """,
    "zarr": """
        import os, numpy, zarr
        from obstore.store import from_url
        from zarr.storage import FsspecStore, ObjectStore
        data = numpy.arange(10_000).reshape(100, 100)
        stores = {"fs": lambda: FsspecStore.from_url(f"{os.environ['SCRATCH_BUCKET']}/fs.zarr"),
                  "ob": lambda: ObjectStore(from_url(f"{os.environ['SCRATCH_BUCKET']}/ob.zarr"))}
        for make in stores.values():
            group = zarr.open_group(make(), mode="w")
            array = group.create_array("x", shape=data.shape, chunks=(30, 30), dtype=data.dtype)
            array[:] = data
            array[90:, 90:] = 7
            again = zarr.open_group(make(), mode="r")["x"]
            assert (again[:90] == data[:90]).all() and (again[90:, 90:] == 7).all()
            sparse = group.create_array("sparse", shape=(1000,), chunks=(10,), dtype="f4", fill_value=3)
            assert (sparse[:] == 3).all()
            zarr.open_group(make(), mode="w").create_array("y", shape=(1,), dtype="i4")
            assert list(zarr.open_group(make(), mode="r").array_keys()) == ["y"]
    """,
    "pandas": """
        import os, pandas
        frame = pandas.DataFrame({"a": range(1000), "b": ["text"] * 1000})
        frame.to_csv(f"{os.environ['PANGEO_SCRATCH']}/table.csv", index=False)
        assert len(pandas.read_csv(f"{os.environ['PANGEO_SCRATCH']}/table.csv")) == 1000
    """,
}


@pytest.mark.parametrize("name", SCRIPTS)
async def test_a_library_works_with_only_the_environment_variables(
    session: Session, storage: Storage, name: str, tmp_path: Path
) -> None:
    environment = session_environment(session.environment) | {"HOME": str(tmp_path)}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", dedent(SCRIPTS[name]),
        env=environment, cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await asyncio.wait_for(process.communicate(), 120)
    assert process.returncode == 0, output.decode()
    about = (await storage.admin.call("GET", f"/launches/{session.prefix}"))[1]
    assert about["used_bytes"] == await storage.runner.service.measure(session.prefix)
