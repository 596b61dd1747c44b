"""What every vending driver must do: credentials good for one launch's scope, for nothing else, and only until revoked.

A test of a driver subclasses `VendContract` and gives it the fixture `vending`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest
from botocore.exceptions import ClientError

from pangeo_binder import names
from pangeo_binder.storage.vend.base import Vended


@dataclass(frozen=True)
class Vending:
    """A driver at work, over a store that holds the object `dataset_key` in the readable bucket `dataset_bucket`."""

    vend: Callable[[str], Awaitable[Vended]]
    """Vends for a launch id; any launch may read the data set."""
    revoke: Callable[[str], Awaitable[None]]
    s3: Callable[[Vended, str, dict[str, Any]], Awaitable[Any]]
    """Calls a boto3 operation with what was vended."""
    dataset_bucket: str
    dataset_key: str


class VendContract:
    """The conformance tests of vending drivers."""

    async def refused(self, vending: Vending, vended: Vended, operation: str, **arguments: Any) -> int:
        """Return the HTTP status an operation is refused with."""
        with pytest.raises(ClientError) as error:
            await vending.s3(vended, operation, arguments)
        return int(error.value.response["ResponseMetadata"]["HTTPStatusCode"])

    @staticmethod
    def own(vended: Vended, key: str) -> dict[str, str]:
        """Return bucket and key of an object on the launch's scratch."""
        bucket, _, prefix = vended.scratch.removeprefix("s3://").partition("/")
        return {"Bucket": bucket, "Key": f"{prefix}/{key}"}

    async def test_scratch_is_named_in_the_environment(self, vending: Vending) -> None:
        vended = await vending.vend(names.new_launch_id())
        assert vended.environment["SCRATCH_BUCKET"] == vended.environment["PANGEO_SCRATCH"] == vended.scratch
        assert vended.scratch.startswith("s3://")
        assert not vended.scratch.endswith("/")

    async def test_vending_twice_is_harmless(self, vending: Vending) -> None:
        launch_id = names.new_launch_id()
        first, second = await vending.vend(launch_id), await vending.vend(launch_id)
        assert first.scratch == second.scratch
        for vended in (first, second):
            await vending.s3(vended, "put_object", self.own(vended, "x") | {"Body": b"1"})

    async def test_scratch_can_be_used_and_a_missing_object_is_missing(self, vending: Vending) -> None:
        vended = await vending.vend(names.new_launch_id())
        await vending.s3(vended, "put_object", self.own(vended, "a/b") | {"Body": b"1"})
        await vending.s3(vended, "get_object", self.own(vended, "a/b"))
        await vending.s3(vended, "delete_object", self.own(vended, "a/b"))
        assert await self.refused(vending, vended, "get_object", **self.own(vended, "a/b")) == 404

    async def test_other_launches_are_out_of_reach(self, vending: Vending) -> None:
        one, other = await vending.vend(names.new_launch_id()), await vending.vend(names.new_launch_id())
        await vending.s3(other, "put_object", self.own(other, "x") | {"Body": b"1"})
        for operation in ("get_object", "put_object", "delete_object"):
            assert await self.refused(vending, one, operation, **self.own(other, "x")) == 403
        place = self.own(other, "")
        listing = {"Bucket": place["Bucket"], "Prefix": place["Key"]}
        assert await self.refused(vending, one, "list_objects_v2", **listing) == 403

    async def test_the_data_set_can_be_read_and_not_written(self, vending: Vending) -> None:
        vended = await vending.vend(names.new_launch_id())
        there = {"Bucket": vending.dataset_bucket, "Key": vending.dataset_key}
        await vending.s3(vended, "get_object", there)
        assert await self.refused(vending, vended, "put_object", **there) == 403
        assert await self.refused(vending, vended, "delete_object", **there) == 403

    async def test_revoked_credentials_are_useless(self, vending: Vending) -> None:
        launch_id = names.new_launch_id()
        vended, other = await vending.vend(launch_id), await vending.vend(names.new_launch_id())
        await vending.revoke(launch_id)
        await vending.revoke(launch_id)
        assert await self.refused(vending, vended, "put_object", **self.own(vended, "x")) == 403
        await vending.s3(other, "put_object", self.own(other, "x") | {"Body": b"1"})

    async def test_what_was_vended_does_not_show_its_secrets(self, vending: Vending) -> None:
        vended = await vending.vend(names.new_launch_id())
        assert vended.environment["AWS_SECRET_ACCESS_KEY"] not in repr(vended)
