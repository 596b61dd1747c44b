"""What every issuers must do: credentials good for one launch's scope, for nothing else, and only until revoked.

A test of a driver subclasses `IssuerContract` and gives it the fixture `issuing`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest
from botocore.exceptions import ClientError

from pangeo_binder import names
from pangeo_binder.storage.issuers.base import Credentials


@dataclass(frozen=True)
class Issuing:
    """A driver at work, over a store that holds the object `dataset_key` in the readable bucket `dataset_bucket`."""

    issue: Callable[[str], Awaitable[Credentials]]
    """Issues for a launch id; any launch may read the data set."""
    revoke: Callable[[str], Awaitable[None]]
    s3: Callable[[Credentials, str, dict[str, Any]], Awaitable[Any]]
    """Calls a boto3 operation with what was issued."""
    dataset_bucket: str
    dataset_key: str


class IssuerContract:
    """The conformance tests of issuers."""

    async def refused(self, issuing: Issuing, issued: Credentials, operation: str, **arguments: Any) -> int:
        """Return the HTTP status an operation is refused with."""
        with pytest.raises(ClientError) as error:
            await issuing.s3(issued, operation, arguments)
        return int(error.value.response["ResponseMetadata"]["HTTPStatusCode"])

    @staticmethod
    def own(issued: Credentials, key: str) -> dict[str, str]:
        """Return bucket and key of an object on the launch's scratch."""
        bucket, _, prefix = issued.scratch.removeprefix("s3://").partition("/")
        return {"Bucket": bucket, "Key": f"{prefix}/{key}"}

    async def test_scratch_is_named_in_the_environment(self, issuing: Issuing) -> None:
        issued = await issuing.issue(names.new_launch_id())
        assert issued.environment["SCRATCH_BUCKET"] == issued.environment["PANGEO_SCRATCH"] == issued.scratch
        assert issued.scratch.startswith("s3://")
        assert not issued.scratch.endswith("/")

    async def test_vending_twice_is_harmless(self, issuing: Issuing) -> None:
        launch_id = names.new_launch_id()
        first, second = await issuing.issue(launch_id), await issuing.issue(launch_id)
        assert first.scratch == second.scratch
        for issued in (first, second):
            await issuing.s3(issued, "put_object", self.own(issued, "x") | {"Body": b"1"})

    async def test_scratch_can_be_used_and_a_missing_object_is_missing(self, issuing: Issuing) -> None:
        issued = await issuing.issue(names.new_launch_id())
        await issuing.s3(issued, "put_object", self.own(issued, "a/b") | {"Body": b"1"})
        await issuing.s3(issued, "get_object", self.own(issued, "a/b"))
        await issuing.s3(issued, "delete_object", self.own(issued, "a/b"))
        assert await self.refused(issuing, issued, "get_object", **self.own(issued, "a/b")) == 404

    async def test_other_launches_are_out_of_reach(self, issuing: Issuing) -> None:
        one, other = await issuing.issue(names.new_launch_id()), await issuing.issue(names.new_launch_id())
        await issuing.s3(other, "put_object", self.own(other, "x") | {"Body": b"1"})
        for operation in ("get_object", "put_object", "delete_object"):
            assert await self.refused(issuing, one, operation, **self.own(other, "x")) == 403
        place = self.own(other, "")
        listing = {"Bucket": place["Bucket"], "Prefix": place["Key"]}
        assert await self.refused(issuing, one, "list_objects_v2", **listing) == 403

    async def test_the_data_set_can_be_read_and_not_written(self, issuing: Issuing) -> None:
        issued = await issuing.issue(names.new_launch_id())
        there = {"Bucket": issuing.dataset_bucket, "Key": issuing.dataset_key}
        await issuing.s3(issued, "get_object", there)
        assert await self.refused(issuing, issued, "put_object", **there) == 403
        assert await self.refused(issuing, issued, "delete_object", **there) == 403

    async def test_revoked_credentials_are_useless(self, issuing: Issuing) -> None:
        launch_id = names.new_launch_id()
        issued, other = await issuing.issue(launch_id), await issuing.issue(names.new_launch_id())
        await issuing.revoke(launch_id)
        await issuing.revoke(launch_id)
        assert await self.refused(issuing, issued, "put_object", **self.own(issued, "x")) == 403
        await issuing.s3(other, "put_object", self.own(other, "x") | {"Body": b"1"})

    async def test_what_was_vended_does_not_show_its_secrets(self, issuing: Issuing) -> None:
        issued = await issuing.issue(names.new_launch_id())
        assert issued.environment["AWS_SECRET_ACCESS_KEY"] not in repr(issued)
