"""The contract of issuers: credentials are valid for one launch's scope, for nothing else, and only until revoked.

A test of a driver subclasses `IssuerContract` and provides the fixture `issuing`.
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
    """A driver with a store that has the object `dataset_key` in the readable bucket `dataset_bucket`."""

    issue: Callable[[str], Awaitable[Credentials]]
    """Issues credentials for a launch id; every launch may read the data set."""
    revoke: Callable[[str], Awaitable[None]]
    s3: Callable[[Credentials, str, dict[str, Any]], Awaitable[Any]]
    """Calls a boto3 operation with the issued credentials."""
    dataset_bucket: str
    dataset_key: str


class IssuerContract:
    """The conformance tests of issuers."""

    async def refused(self, issuing: Issuing, issued: Credentials, operation: str, **arguments: Any) -> int:
        """Return the HTTP status with which an operation is refused."""
        with pytest.raises(ClientError) as error:
            await issuing.s3(issued, operation, arguments)
        return int(error.value.response["ResponseMetadata"]["HTTPStatusCode"])

    @staticmethod
    def own(issued: Credentials, key: str) -> dict[str, str]:
        """Return the bucket and key of an object on the launch's scratch."""
        bucket, _, prefix = issued.scratch.removeprefix("s3://").partition("/")
        return {"Bucket": bucket, "Key": f"{prefix}/{key}"}

    async def test_the_environment_has_the_scratch_url(self, issuing: Issuing) -> None:
        issued = await issuing.issue(names.new_launch_id())
        assert issued.environment["SCRATCH_BUCKET"] == issued.environment["PANGEO_SCRATCH"] == issued.scratch
        assert issued.scratch.startswith("s3://")
        assert not issued.scratch.endswith("/")

    async def test_issuing_is_idempotent(self, issuing: Issuing) -> None:
        launch_id = names.new_launch_id()
        first, second = await issuing.issue(launch_id), await issuing.issue(launch_id)
        assert first.scratch == second.scratch
        for issued in (first, second):
            await issuing.s3(issued, "put_object", self.own(issued, "x") | {"Body": b"1"})

    async def test_scratch_is_writable_and_a_missing_object_is_404(self, issuing: Issuing) -> None:
        issued = await issuing.issue(names.new_launch_id())
        await issuing.s3(issued, "put_object", self.own(issued, "a/b") | {"Body": b"1"})
        await issuing.s3(issued, "get_object", self.own(issued, "a/b"))
        await issuing.s3(issued, "delete_object", self.own(issued, "a/b"))
        assert await self.refused(issuing, issued, "get_object", **self.own(issued, "a/b")) == 404

    async def test_scratch_of_other_launches_is_refused(self, issuing: Issuing) -> None:
        one, other = await issuing.issue(names.new_launch_id()), await issuing.issue(names.new_launch_id())
        await issuing.s3(other, "put_object", self.own(other, "x") | {"Body": b"1"})
        for operation in ("get_object", "put_object", "delete_object"):
            assert await self.refused(issuing, one, operation, **self.own(other, "x")) == 403
        location = self.own(other, "")
        listing = {"Bucket": location["Bucket"], "Prefix": location["Key"]}
        assert await self.refused(issuing, one, "list_objects_v2", **listing) == 403

    async def test_the_data_set_is_read_only(self, issuing: Issuing) -> None:
        issued = await issuing.issue(names.new_launch_id())
        dataset = {"Bucket": issuing.dataset_bucket, "Key": issuing.dataset_key}
        await issuing.s3(issued, "get_object", dataset)
        assert await self.refused(issuing, issued, "put_object", **dataset) == 403
        assert await self.refused(issuing, issued, "delete_object", **dataset) == 403

    async def test_revoked_credentials_are_refused(self, issuing: Issuing) -> None:
        launch_id = names.new_launch_id()
        issued, other = await issuing.issue(launch_id), await issuing.issue(names.new_launch_id())
        await issuing.revoke(launch_id)
        await issuing.revoke(launch_id)
        assert await self.refused(issuing, issued, "put_object", **self.own(issued, "x")) == 403
        await issuing.s3(other, "put_object", self.own(other, "x") | {"Body": b"1"})

    async def test_the_repr_of_credentials_has_no_secret(self, issuing: Issuing) -> None:
        issued = await issuing.issue(names.new_launch_id())
        assert issued.environment["AWS_SECRET_ACCESS_KEY"] not in repr(issued)
