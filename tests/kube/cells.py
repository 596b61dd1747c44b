"""What sessions of the journeys run in their kernels."""

from __future__ import annotations

REACH = """
import socket
def reaches(host, port):
    try:
        socket.create_connection((host, int(port)), timeout=4).close()
        return True
    except OSError:
        return False
"""
SUM = """
import dask.array as da
print(float(da.ones((400, 400), chunks=(200, 200)).sum().compute()))
"""
SCRATCH = """
import os, s3fs
def write():
    import os, s3fs
    path = os.environ["SCRATCH_BUCKET"].removeprefix("s3://") + "/from-worker"
    s3fs.S3FileSystem().pipe(path, b"worker")
    return path
path = client.submit(write).result()
print(s3fs.S3FileSystem().cat(path).decode())
"""
"""Of `client`."""


def looks_at(path: str) -> str:
    """Return a cell that says whether what is at a path of the storage is open to this session."""
    return f"""
import s3fs
try:
    s3fs.S3FileSystem().ls({path!r})
    print("open")
except PermissionError:
    print("closed")
"""
