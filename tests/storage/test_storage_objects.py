"""Single objects through a real S3 client."""

from __future__ import annotations

from pathlib import Path

import pytest
from botocore.exceptions import ClientError


def refused(error: pytest.ExceptionInfo[ClientError]) -> tuple[str, int]:
    answer = error.value.response
    return answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"]


KEYS = ["plain.txt", "a b/c+d%20.nc", "ünïcode/日本.zarr", "#?&*~{}:'()!@$,;=.txt", "x#1", "deep/" * 20 + "x"]


@pytest.mark.parametrize("name", KEYS)
async def test_a_key_comes_back_as_it_was_written(session, name: str) -> None:
    key = f"{session.prefix}/{name}"
    await session.do("put_object", Key=key, Body=name.encode())
    got = await session.do("get_object", Key=key)
    assert got["Body"].read() == name.encode()
    listed = await session.do("list_objects_v2", Prefix=f"{session.prefix}/")
    assert [item["Key"] for item in listed["Contents"]] == [key]
    assert listed["Contents"][0]["ETag"] == got["ETag"]
    await session.do("delete_object", Key=key)
    with pytest.raises(ClientError) as error:
        await session.do("head_object", Key=key)
    assert refused(error)[1] == 404
